"""latent-diffusion's U-Net: names and sizes of its networks, exact round trips, errors that name what does not fit."""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import save_file

from pdm_jax.errors import UserError
from pdm_jax.interop import ldm_unet
from pdm_jax.interop.ldm_unet_config import translate
from pdm_jax.networks import LDMUNet, count_params, define
from pdm_jax.types import Cond
from tests.evaluation.random_weights import make_weights
from tests.parity_kinds import open_case

REFERENCE = Path(__file__).parents[3] / "shared/reference"
RELEASED = sorted((REFERENCE / "keys").glob("ldm_unet_*.json"))
IMAGENET = {"num_res_blocks": 2, "num_heads": 1, "use_spatial_transformer": True, "context_dim": 512}
CELEBA = {"num_res_blocks": 2, "num_head_channels": 32}
INPAINTING = {"model_channels": 128, "num_res_blocks": 2, "num_heads": 1, "channel_mult": (1, 4, 8)}
# Channels of the latents, width, channel_mult, and factors with attention of LDM-1, -2, -4, -8, -16 and -32.
BY_FACTOR = {
    1: (3, 192, (1, 1, 2, 2, 4, 4), (8, 16, 32)),
    2: (2, 192, (1, 2, 2, 4, 4), (4, 8, 16)),
    4: (3, 192, (1, 2, 3, 5), (2, 4, 8)),
    8: (4, 256, (1, 2, 4), (1, 2, 4)),
    16: (8, 256, (1, 2, 4), (1, 2, 4)),
    32: (32, 256, (1, 2, 4), (1, 2, 4)),
}
TABLE_13 = {1: 396.84, 2: 390.89, 4: 400.92, 8: 394.98, 16: 395.00, 32: 395.11}  # million parameters
TABLE_14 = {1: 270.46, 2: 264.51, 4: 274.06, 8: 257.73, 16: 257.75, 32: 257.86}
SMALL = {  # hybrid, with a label besides
    "image_size": 8,
    "in_channels": 5,
    "out_channels": 3,
    "model_channels": 32,
    "num_res_blocks": 1,
    "attention_resolutions": [2],
    "channel_mult": [1, 2],
    "num_heads": 2,
    "num_classes": 4,
    "use_spatial_transformer": True,
    "transformer_depth": 2,
    "context_dim": 6,
    "legacy": False,
}


def definition_of(official):
    settings = translate(official)
    return define(lambda rngs: LDMUNet(**settings, rngs=rngs))


def error_of(function, *args) -> str:
    with pytest.raises(UserError) as caught:
        function(*args)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def millions(official) -> float:
    return round(count_params(definition_of(official).shapes) / 1e6, 2)


@pytest.mark.skipif(not RELEASED, reason="the full reference is not beside the checkout")
@pytest.mark.parametrize("path", RELEASED, ids=lambda path: path.stem)
def test_released_names_and_shapes(path):
    released = json.loads(path.read_text())
    definition = definition_of(released["unet_config"])
    shapes = ldm_unet.official_shapes(definition)
    assert [[name, list(shape)] for name, shape in shapes.items()] == released["keys"]
    assert count_params(definition.shapes) == released["params_unet"]


@pytest.mark.parametrize("factor", BY_FACTOR)
def test_sizes_of_tables_13_and_14(factor):
    channels, width, channel_mult, attention = BY_FACTOR[factor]
    common = {"in_channels": channels, "out_channels": channels, "attention_resolutions": attention}
    conditional = common | {"model_channels": width, "channel_mult": channel_mult}
    assert millions(IMAGENET | conditional) == TABLE_13[factor]
    # LDM-4 differs: the paper's table 14 has it wider and less deep in channels.
    other = {"model_channels": 224, "channel_mult": (1, 2, 3, 4)} if factor == 4 else {}
    assert millions(CELEBA | conditional | other) == TABLE_14[factor]


def test_sizes_of_table_15_that_were_not_released():
    layout_coco = IMAGENET | {"in_channels": 4, "out_channels": 4, "attention_resolutions": [1, 2, 4]}
    layout_coco |= {"model_channels": 192, "channel_mult": (1, 2, 4), "transformer_depth": 2}
    assert millions(layout_coco) == 312.24
    assert millions(INPAINTING | {"in_channels": 7, "out_channels": 3, "attention_resolutions": []}) == 215.23


def test_round_trip_is_exact():
    definition = definition_of(SMALL)
    tensors = make_weights(ldm_unet.official_shapes(definition))
    back = ldm_unet.to_official(ldm_unet.load(tensors, definition), definition)
    assert list(back) == list(tensors)
    for name, tensor in tensors.items():
        np.testing.assert_array_equal(back[name], tensor)


def test_tensors_that_do_not_fit_are_named():
    definition = definition_of(SMALL)
    tensors = {name: np.zeros(shape) for name, shape in ldm_unet.official_shapes(definition).items()}
    block = "middle_block.1.transformer_blocks.1."
    tensors[f"{block}norm4.weight"] = tensors.pop(f"{block}norm3.weight")
    tensors[f"{block}attn2.to_k.weight"] = np.zeros((64, 7))
    message = error_of(ldm_unet.load, tensors, definition)
    assert f"1 misshapen: {block}attn2.to_k.weight (got (64, 7), wanted (64, 6))" in message
    assert f"1 missing: {block}norm3.weight" in message and f"1 surplus: {block}norm4.weight" in message


def test_a_hybrid_case_of_the_parity_runner(tmp_path):
    folder = tmp_path / "ldm_unet_hybrid"
    folder.mkdir()
    definition, random = definition_of(SMALL), np.random.default_rng(0)
    tensors = make_weights(ldm_unet.official_shapes(definition))
    save_file(tensors, folder / "weights.safetensors")
    shapes = {"x": (2, 3, 4, 6), "context": (2, 7, 6), "c_concat": (2, 2, 4, 6)}
    io = {name: random.standard_normal(shape, np.float32) for name, shape in shapes.items()}
    io |= {"timesteps": np.array([5, 900]), "y": np.array([3, 0])}
    np.savez(folder / "io.npz", **io, out=io["x"], after_input_block_2=io["x"])
    (folder / "meta.json").write_text(json.dumps({"unet_config": SMALL, "conditioning": "hybrid"}))

    case = open_case(folder)
    got = case.kind.run(case)
    assert got["after_input_block_2"].shape == (2, 32, 2, 3)
    network = definition.bind(ldm_unet.load(tensors, definition))
    cond = Cond(jnp.asarray(io["y"]), context=jnp.asarray(io["context"]), concat=nhwc(io["c_concat"]))
    output, _ = jax.jit(network)(nhwc(io["x"]), jnp.asarray(io["timesteps"]), cond)
    np.testing.assert_allclose(got["out"], jnp.moveaxis(output, -1, 1), rtol=1e-5, atol=1e-5)


def nhwc(array: np.ndarray) -> jax.Array:
    return jnp.moveaxis(jnp.asarray(array), 1, -1)


def test_translation():
    assert translate(SMALL | {"use_checkpoint": True}) == {
        "channels": 3,
        "in_channels": 5,
        "width": 32,
        "channel_mult": (1, 2),
        "num_blocks": 1,
        "attn_levels": (1,),
        "num_classes": 4,
        "has_null": False,
        "context_dim": 6,
        "transformer_depth": 2,
        "use_scale_shift_norm": False,
        "resblock_updown": False,
        "attention_order": "legacy",
        "num_heads": 2,
    }
    listed = translate(SMALL | {"context_dim": [6], "num_head_channels": 8, "attention_resolutions": [8, 1]})
    assert (listed["context_dim"], listed["head_dim"], listed["attn_levels"]) == (6, 8, (0,))


def test_translation_errors():
    assert "lacks model_channels" in error_of(translate, {k: v for k, v in SMALL.items() if k != "model_channels"})
    assert "unknown keys width" in error_of(translate, SMALL | {"width": 3})
    assert "has dims 3; only 2" in error_of(translate, SMALL | {"dims": 3})
    assert "neither num_heads nor num_head_channels" in error_of(translate, SMALL | {"num_heads": -1})
    assert "the one needs the other" in error_of(translate, SMALL | {"context_dim": None})
    assert "context_dim [6, 6]; only one" in error_of(translate, SMALL | {"context_dim": [6, 6]})
