"""Learning rates and the decay of averages: their formulas at the places that matter."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pdm_jax.config import EmaConfig, OptimizerConfig
from pdm_jax.errors import UserError
from pdm_jax.training.averages import new_share, update_ema
from pdm_jax.training.rates import learning_rate


def rates(counts, **settings):
    return jax.vmap(learning_rate(OptimizerConfig(**{"learning_rate": 2.0} | settings)))(jnp.array(counts))


def test_constant():
    np.testing.assert_allclose(rates([0, 5, 10, 11, 99], warmup_steps=10, start_factor=0.1), [0.2, 1.1, 2, 2, 2])
    np.testing.assert_array_equal(rates([0, 7]), 2)


def test_cosine_goes_from_the_end_of_warm_up_to_its_own():
    got = rates([5, 10, 20, 30, 99], schedule="cosine", warmup_steps=10, schedule_steps=30, end_factor=0.2)
    np.testing.assert_allclose(got, [1, 2, 1.2, 0.4, 0.4], rtol=1e-6)


def test_linear_falls_from_the_start_of_the_cycle():
    got = rates([5, 9, 10, 20, 40, 99], schedule="linear", warmup_steps=10, schedule_steps=40, end_factor=0.5)
    np.testing.assert_allclose(got, [1, 1.8, 1.75, 1.5, 1, 1], rtol=1e-6)


def test_restarts_change_what_they_name():
    restarts = ({"learning_rate": 1.0, "warmup_steps": 4}, {"schedule_steps": 10})
    settings = {"schedule": "cosine", "warmup_steps": 2, "schedule_steps": 20, "restarts": restarts}
    got = rates([0, 2, 20, 22, 24, 40, 41, 42, 46, 50, 70], **settings)
    np.testing.assert_allclose(got, [0, 2, 0, 0.5, 1, 0, 1, 2, 1, 0, 0], atol=1e-6)


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"schedule": "step"}, "schedule is 'step'; expected one of constant, linear, cosine"),
        ({"schedule": "cosine"}, "schedule_steps is missing"),
        ({"restarts": ({},)}, "schedule_steps is missing"),
        ({"schedule": "linear", "warmup_steps": 9, "schedule_steps": 9}, "is 9; expected more than the 9"),
        ({"schedule_steps": 9, "restarts": ({"b1": 0.5},)}, r"restarts\[0\].b1 is not of a cycle"),
        ({"schedule_steps": 9, "restarts": ({"warmup_steps": "no"},)}, r"restarts\[0\].warmup_steps is 'no'"),
    ],
)
def test_mistakes(settings, message):
    with pytest.raises(UserError, match=message):
        learning_rate(OptimizerConfig(**settings))


def test_young_averages_follow_faster():
    """The n-th update has a decay of (1 + n) / (10 + n), until that is more than the setting."""
    config = EmaConfig(decay=0.5, warmup=True, every=3)
    ema, expected = {"w": jnp.zeros(1)}, 0.0
    for step in range(40):
        ema = update_ema(ema, {"w": jnp.full(1, step + 1.0)}, jnp.int32(step), config)
        if step % 3 == 0:
            n = step // 3 + 1
            decay = min(0.5, (1 + n) / (10 + n))
            expected = decay * expected + (1 - decay) * (step + 1)
            assert new_share(config, step, np) == pytest.approx(1 - decay)
    np.testing.assert_allclose(ema["w"], expected, rtol=1e-6)
