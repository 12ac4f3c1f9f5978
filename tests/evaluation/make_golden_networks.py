"""Makes `tests/golden/evaluation/networks.npz` with the official programs, from random weights.

  PYTHONPATH=. python tests/evaluation/make_golden_networks.py

Made with torch 2.15.0, torchvision 0.29.2, torch-fidelity 0.4.0, pytorch-fid 0.3.0, clean-fid 0.1.35, lpips 0.1.4 and
Pillow 13.0.0 on a CPU.
"""

import tempfile
from pathlib import Path

import numpy as np

from tests.evaluation.official_networks import (
    fidelity_inception,
    lpips_distance,
    pytorch_fid_pool,
    resized,
    save,
)
from tests.evaluation.random_weights import BACKBONE_SHAPES, HEAD_SHAPES, INCEPTION_SHAPES, make_images, make_weights

GOLDEN = Path(__file__).parents[1] / "golden" / "evaluation" / "networks.npz"


def main() -> None:
    """Runs the programs and writes what they say."""
    with tempfile.TemporaryDirectory() as folder:
        results = run_networks(Path(folder))
    small = make_images(1, 40, 33)
    for kind in ("tensorflow", "pytorch", "clean"):
        for height, width in ((23, 29), (61, 50)):
            results[f"resized_{kind}_{height}x{width}"] = resized(kind, small, (height, width))
    GOLDEN.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(GOLDEN, **results)
    for name, value in results.items():
        print(name, value.shape, f"mean {value.mean():.4g}, deviation {value.std():.4g}")
    print(GOLDEN.stat().st_size, "bytes")


def run_networks(folder: Path) -> dict[str, np.ndarray]:
    """Features and distances by name."""
    images, other = make_images(2, 80, 64), make_images(2, 80, 64, seed=1)
    path = save(folder / "inception.pth", make_weights(INCEPTION_SHAPES))
    results = {f"inception_{name}": value for name, value in fidelity_inception(path, images).items()}
    results["inception_pool_pytorch"] = pytorch_fid_pool(path, images)
    results["inception_pool_clean"] = fidelity_inception(path, images, "clean")["pool"]
    for name, shapes in BACKBONE_SHAPES.items():
        backbone = save(folder / f"{name}.pth", make_weights(shapes))
        heads = save(folder / f"{name}_heads.pth", make_weights(HEAD_SHAPES[name]))
        results[f"lpips_{name}"] = lpips_distance(name, backbone, heads, images, other)
    return results


if __name__ == "__main__":
    main()
