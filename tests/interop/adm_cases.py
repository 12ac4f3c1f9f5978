"""Small networks of guided-diffusion with random weights, which the program and a test can both make."""

import numpy as np

from tests.evaluation.random_weights import make_weights

CONFIGS = {
    "as_released": {  # like the 512x512 network: a first factor that is not 1, three levels, classes
        "model_channels": 64,
        "out_channels": 6,
        "num_res_blocks": 1,
        "attention_resolutions": [2, 4],
        "channel_mult": [0.5, 1, 1],
        "num_classes": 5,
        "num_head_channels": 16,
        "use_scale_shift_norm": True,
        "resblock_updown": True,
        "use_new_attention_order": True,
    },
    "as_improved_ddpm": {  # convolutions resample, time is added, several blocks a level
        "model_channels": 32,
        "out_channels": 3,
        "num_res_blocks": 2,
        "attention_resolutions": [2],
        "channel_mult": [1, 2],
        "num_heads": 4,
    },
}


def config(name: str) -> dict:
    """The arguments of the program's `UNetModel`."""
    return {"image_size": 8, "in_channels": 3, **CONFIGS[name]}


def weights(shapes: dict[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
    """Random weights by name and shape; the gains of norms are about 1, so that everything has an effect."""
    made = make_weights(shapes)
    return {name: w + np.float32(name.endswith("weight") and w.ndim == 1) for name, w in made.items()}


def inputs(name: str) -> dict[str, np.ndarray]:
    """x (2, 3, 8, 12), t [2] and, for a network with classes, y [2]."""
    x = np.random.RandomState(0).randn(2, 3, 8, 12).astype(np.float32)
    label = {"y": np.array([4, 1], np.int32)} if "num_classes" in CONFIGS[name] else {}
    return {"x": x, "t": np.array([0, 937], np.int32), **label}
