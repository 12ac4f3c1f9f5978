"""guided-diffusion's weights: the program's outputs, exact round trips, and errors that name what does not fit."""

import numpy as np
import pytest

from pdm_jax.errors import UserError
from pdm_jax.interop import adm
from pdm_jax.interop.adm_config import translate
from pdm_jax.networks import define
from pdm_jax.networks.adm_unet import ADMUNet
from tests.interop import adm_cases
from tests.parity_kinds._adm_unet import forward

NAMES = list(adm_cases.CONFIGS)


def definition_of(name, **settings):
    return define(lambda rngs: ADMUNet(**(translate(adm_cases.config(name)) | settings), rngs=rngs))


def error_of(function, *args) -> str:
    with pytest.raises(UserError) as caught:
        function(*args)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("name", NAMES)
def test_outputs_are_those_of_the_program(name, golden):
    settings = translate(adm_cases.config(name))
    with np.load(golden / "adm" / "unet.npz") as stored:
        names, expected = stored[f"{name}/names"], stored[f"{name}/output"]
    shapes = adm.official_shapes(definition_of(name))
    assert list(shapes) == list(names)
    output = forward(settings, adm_cases.weights(shapes), adm_cases.inputs(name))
    np.testing.assert_allclose(output, expected, rtol=1e-4, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize("name", NAMES)
def test_round_trips_are_exact(name):
    definition = definition_of(name)
    tensors = adm_cases.weights(adm.official_shapes(definition))
    back = adm.to_official(adm.load(tensors, definition), definition)
    assert list(back) == list(tensors)
    for key, tensor in tensors.items():
        np.testing.assert_array_equal(back[key], tensor)


def test_tensors_that_do_not_fit_are_named():
    definition = definition_of("as_released")
    tensors = adm_cases.weights(adm.official_shapes(definition))
    tensors["out.0.scale"] = tensors.pop("out.0.weight")
    tensors["out.2.bias"] = np.zeros(3, np.float32)
    message = error_of(adm.load, tensors, definition)
    assert "1 misshapen: out.2.bias (got (3,), wanted (6,)); 1 missing: out.0.weight (wanted (32,))" in message
    assert "; 1 surplus: out.0.scale (got (32,)). Check" in message


def test_a_file_without_null_label_does_not_fit_a_network_with_one():
    tensors = adm_cases.weights(adm.official_shapes(definition_of("as_released")))
    message = error_of(adm.load, tensors, definition_of("as_released", has_null=True))
    assert "1 misshapen: label_emb.weight (got (5, 256), wanted (6, 256))" in message


def test_half_precision_becomes_float32():
    definition = definition_of("as_improved_ddpm")
    halves = {name: np.zeros(shape, np.float16) for name, shape in adm.official_shapes(definition).items()}
    assert adm.load(halves, definition)["conv_in"]["kernel"].dtype == np.float32


def test_translation():
    assert translate(adm_cases.config("as_released") | {"dropout": 0.1, "use_fp16": True, "dims": 2}) == {
        "channels": 3,
        "width": 64,
        "channel_mult": (0.5, 1, 1),
        "num_blocks": 1,
        "attn_levels": (1, 2),
        "num_classes": 5,
        "has_null": False,
        "learn_variance": True,
        "use_scale_shift_norm": True,
        "resblock_updown": True,
        "attention_order": "new",
        "head_dim": 16,
    }
    plain = translate(adm_cases.config("as_improved_ddpm"))
    assert (plain["num_heads"], plain["attention_order"], plain["learn_variance"]) == (4, "legacy", False)


def test_translation_errors():
    config = adm_cases.config("as_released")
    assert "lacks channel_mult" in error_of(translate, {k: v for k, v in config.items() if k != "channel_mult"})
    assert "unknown keys width" in error_of(translate, config | {"width": 3})
    assert "conv_resample False; only True" in error_of(translate, config | {"conv_resample": False})
    assert "3 in_channels and 4 out_channels" in error_of(translate, config | {"out_channels": 4})
