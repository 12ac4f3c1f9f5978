"""Schedules against their formulas, and the mistakes they refuse."""

import numpy as np
import pytest

from pdm_jax.diffusion.schedules import make_betas
from pdm_jax.errors import UserError


def test_linear_kinds():
    middle = (1e-4 + 0.02) / 2
    assert make_betas("linear", 3, 1e-4, 0.02) == pytest.approx([1e-4, middle, 0.02])
    assert make_betas("sqrt_linear", 3, 1e-4, 0.02) == pytest.approx([1e-4, middle, 0.02])
    assert make_betas("sqrt", 3, 1e-4, 0.02) == pytest.approx(np.sqrt([1e-4, middle, 0.02]))
    assert make_betas("ldm_linear", 3, 0.01, 0.09) == pytest.approx([0.01, 0.04, 0.09])
    assert make_betas("constant", 3, 1e-4, 0.02) == pytest.approx([0.02] * 3)


def test_cosine_follows_its_alpha_bar():
    alpha_bar = np.cumprod(1 - make_betas("cosine", 50, 0.0, 0.0))
    u = np.arange(1, 51) / 50
    expected = np.cos((u + 0.008) / 1.008 * np.pi / 2) ** 2 / np.cos(0.008 / 1.008 * np.pi / 2) ** 2
    np.testing.assert_allclose(alpha_bar[:-1], expected[:-1], rtol=1e-12)
    assert alpha_bar[-1] == pytest.approx(alpha_bar[-2] * 0.001)  # the last beta is capped at 0.999


@pytest.mark.parametrize("name", ["linear", "cosine", "ldm_linear", "sqrt", "constant"])
def test_dtype(name):
    beta = make_betas(name, 100, 1e-4, 0.02, np.float32)
    assert beta.dtype == np.float32
    np.testing.assert_allclose(beta, make_betas(name, 100, 1e-4, 0.02), rtol=1e-3)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("liner", 10, 1e-4, 0.02), "expected one of linear"),
        (("linear", 0, 1e-4, 0.02), "at least 1"),
        (("linear", 10, -1e-4, 0.02), "negative"),
        (("linear", 10, 0.0, 0.02), "outside"),
        (("linear", 10, 0.5, 1.0), "outside"),
    ],
)
def test_mistakes(arguments, words):
    with pytest.raises(UserError, match=words):
        make_betas(*arguments)
