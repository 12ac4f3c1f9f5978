"""What images were told lies beside them, at their size."""

import numpy as np
import pytest

from pdm_jax.cli.showing import beside_told, check_shown
from pdm_jax.errors import UserError
from tests import tiny

IMAGES = np.full((2, 32, 32, 1), 9, np.uint8)
LAYOUT = {"vocab_size": 256, "max_length": 14, "width": 16, "num_layers": 1}


def beside(told, **condition):
    config = tiny.ldm_config(condition=condition, data={"channels": 1, "image_size": 32})
    return beside_told(told, IMAGES, config, "builtin:scenes")


def test_holes_are_grey_and_the_rest_is_as_told():
    image, mask = np.full((2, 32, 32, 1), 70, np.uint8), np.zeros((2, 32, 32, 1), np.uint8)
    mask[:, :4] = 1
    shown = beside({"image": image, "mask": mask})
    assert shown.shape == (2, 32, 64, 3)
    assert (shown[:, :4, :32] == 128).all() and (shown[:, 4:, :32] == 70).all() and (shown[:, :, 32:] == 9).all()


def test_small_images_are_enlarged_and_classes_have_colours():
    low = np.arange(2 * 8 * 8, dtype=np.uint8).reshape(2, 8, 8, 1)
    classes = np.zeros((2, 32, 32), np.uint8)
    classes[:, :, 16:] = 3
    shown = beside({"low": low, "map": classes})
    assert shown.shape == (2, 32, 96, 3)
    assert (shown[:, :, :16] == 0).all() and len(np.unique(shown[:, :, 16:32].reshape(-1, 3), axis=0)) == 1
    np.testing.assert_array_equal(shown[:, ::4, 32:64:4, :1], low)


def test_layouts_are_drawn():
    nothing = np.full((2, 14), 255, np.int32)
    one = nothing.copy()
    one[:, :3] = 3, 0, 8 * 16 + 8  # a three in the upper left part; the vocabulary's grid is 16 x 16
    empty, drawn = (
        beside({"layout": tokens}, kinds=("layout",), networks={"layout": LAYOUT}) for tokens in (nothing, one)
    )
    assert (drawn[:, :, :32] != empty[:, :, :32]).any() and (drawn[:, 20:, 20:32] == empty[:, 20:, 20:32]).all()


def test_what_cannot_be_shown_is_refused():
    check_shown({"tokens": None, "mask": None})
    with pytest.raises(UserError, match="told of none of them"):
        check_shown({"tokens": None, "label": None})
