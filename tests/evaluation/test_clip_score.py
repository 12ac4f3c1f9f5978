"""CLIP score against transformers and torchmetrics (`make_golden_clip.py`), and what is refused."""

import json

import numpy as np
import pytest

from pdm_jax.errors import UserError
from pdm_jax.evaluation.clip_input import open_image_settings, open_tokenizer, prepare
from pdm_jax.evaluation.clip_score import clip_score, open_clip
from tests.evaluation.clip_folder import TEXTS, make_images, write, write_json


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write(tmp_path_factory.mktemp("clip"))


@pytest.fixture(scope="module")
def scorer(folder):
    return open_clip(folder)


def check_inputs(folder, reference):
    np.testing.assert_array_equal(open_tokenizer(folder, 16)(TEXTS), reference["tokens"])
    pixels = prepare(make_images(), open_image_settings(folder))
    np.testing.assert_allclose(pixels, reference["pixels"], atol=1e-6)


def check_scores(folder, reference):
    cosines = (reference["image_embeds"] * reference["text_embeds"]).sum(-1)
    scores = open_clip(folder).scores(make_images(), TEXTS)
    np.testing.assert_allclose(scores, 100 * cosines, atol=1e-4)
    assert min(scores) < 0 < reference["score"]
    np.testing.assert_allclose(clip_score(scores), reference["score"], atol=1e-4)


CHECKS = (check_inputs, check_scores)


@pytest.mark.parametrize("check", CHECKS)
def test_as_transformers_and_torchmetrics(check, folder, golden):
    check(folder, np.load(golden / "evaluation" / "clip.npz"))


def test_a_score_is_never_negative():
    assert clip_score(np.array([-3.0, 1.0])) == 0
    assert clip_score(np.array([-1.0, 3.0])) == 1


def test_grey_images_count_as_colour(scorer):
    grey = make_images()[..., :1]
    np.testing.assert_array_equal(scorer.scores(grey, TEXTS), scorer.scores(grey.repeat(3, axis=-1), TEXTS))


def test_one_text_an_image(scorer):
    with pytest.raises(UserError, match="4 images and 3 texts"):
        scorer.scores(make_images(), TEXTS[:3])


def test_identity_tells_weights_apart(scorer, tmp_path):
    same = open_clip(write(tmp_path / "same"))
    other = open_clip(write(tmp_path / "other", num_hidden_layers=1))
    assert scorer.identity == same.identity != other.identity


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"do_center_crop": False}, "asks for no do_center_crop"),
        ({"resample": 2}, "asks for a filter other than bicubic"),
        ({"image_mean": None}, "lacks a usable"),
        ({"size": 20}, "crops 32 pixels out of 20"),
        ({"crop_size": 30}, "crop to 30 pixels, the network reads 32"),
    ],
)
def test_image_settings_that_are_not_clips(tmp_path, change, message):
    folder = write(tmp_path)
    path = folder / "preprocessor_config.json"
    write_json(path, json.loads(path.read_text()) | change)
    with pytest.raises(UserError, match=message):
        open_clip(folder)


def test_tokenizers_that_cannot_be_used(tmp_path):
    folder = write(tmp_path)
    write_json(folder / "tokenizer_config.json", {"pad_token": {"content": "<pad>"}})
    with pytest.raises(UserError, match="no token '<pad>'"):
        open_tokenizer(folder, 16)
    (folder / "tokenizer_config.json").unlink()
    assert open_tokenizer(folder, 16)(["a"]).shape == (1, 16)
    write_json(folder / "tokenizer.json", {"model": 3})
    with pytest.raises(UserError, match="is no tokenizer"):
        open_tokenizer(folder, 16)
