"""Config groups are read strictly, and differences are told apart from details."""

import json

import pytest

from pdm_jax.config import Config, differences, read, to_dict
from pdm_jax.errors import UserError
from tests import tiny


def values(**changes):
    return {name: dict(group) for name, group in tiny.SETTINGS.items()} | changes


def test_a_config_survives_json():
    config = tiny.config()
    assert read(Config, json.loads(json.dumps(to_dict(config)))) == config


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"trian": {}}, r"config.trian is not a config key; did you mean config.train\?"),
        ({"data": {"source": "memory", "image_size": 4}}, "config.data.batch_size is missing"),
        ({"data": {**tiny.SETTINGS["data"], "flip": "yes"}}, "config.data.flip is 'yes'; expected bool"),
        ({"data": {**tiny.SETTINGS["data"], "image_size": 4.5}}, "config.data.image_size is 4.5; expected int"),
        ({"data": {**tiny.SETTINGS["data"], "image_size": True}}, "config.data.image_size is True; expected int"),
        ({"train": {"log_every": 0}}, "config.train.log_every is 0; expected at least 1"),
        ({"loss": {"label_dropout": 1.5}}, "config.loss.label_dropout is 1.5; expected 0 to 1"),
        ({"optimizer": {"clip_norm": "big"}}, "config.optimizer.clip_norm is 'big'; expected float or None"),
        ({"seed": -1}, "config.seed is -1; expected 0 to 4294967295"),
        ({"train": 3}, "config.train is 3; expected a group with the keys"),
        ({"model": {"system": "pdm", "network": 3}}, "config.model.network is 3; expected a group"),
    ],
)
def test_mistakes_name_the_key(changes, message):
    with pytest.raises(UserError, match=message):
        read(Config, values(**changes))


def test_numbers_are_taken_where_they_mean_the_same():
    config = tiny.config(loss={"vlb_weight": 2}, sample={"steps": 50}, optimizer={"clip_norm": None})
    assert config.loss.vlb_weight == 2.0 and isinstance(config.loss.vlb_weight, float)
    assert config.sample.steps == "50"
    assert config.optimizer.clip_norm is None


def test_differences_name_what_changes_training_only():
    old = tiny.config()
    new = tiny.config(
        train={"num_steps": 9}, sample={"steps": "7"}, ema={"decay": 0.5}, model={"network": {"width": 64}}, seed=3
    )
    lines = differences(old, new)
    assert "config.ema.decay: 0.9 -> 0.5" in lines
    assert "config.seed: 0 -> 3" in lines
    assert "config.model.network.width: 32 -> 64" in lines
    assert not [line for line in lines if "num_steps" in line or "sample" in line]
    assert differences(old, old) == []
