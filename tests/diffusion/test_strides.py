"""Strides: the named ones against known values, properties of all, and helpful refusals."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pdm_jax.diffusion import timesteps
from pdm_jax.errors import UserError


@pytest.mark.parametrize(
    ("spec", "first", "last", "length"),
    [
        ("250", [0, 4, 8], [995, 999], 250),
        (250, [0, 4, 8], [995, 999], 250),
        ("90,60,60,20,20", [0, 2, 4], [989, 999], 250),
        ([90, 60, 60, 20, 20], [0, 2, 4], [989, 999], 250),
        (1, [0], [0], 1),
        ("1000", [0, 1], [998, 999], 1000),
        ("3,0", [0, 250], [250, 499], 3),
        ("ddim50", [0, 20, 40], [960, 980], 50),
        ("ddim1000", [0, 1], [998, 999], 1000),
        ("uniform50", [1, 21], [961, 981], 50),
        ("uniform400", [1, 3], [997, 999], 500),
        ("uniform150", [1, 7], [991, 997], 167),
        ("uniform30", [1, 34], [958, 991], 31),
        ("quad10", [1, 10, 40], [633, 801], 10),
        ("quad50", [1, 1, 2], [768, 801], 50),
    ],
)
def test_known_values(spec, first, last, length):
    steps = timesteps(spec, 1000)
    assert steps.dtype == np.int32
    assert len(steps) == length
    assert steps[: len(first)].tolist() == first
    assert steps[-len(last) :].tolist() == last


@given(st.integers(1, 300), st.data())
def test_sections_give_their_counts(num_steps, data):
    sections = data.draw(st.integers(1, min(num_steps, 6)))
    sizes = [num_steps // sections + (i < num_steps % sections) for i in range(sections)]
    counts = [data.draw(st.integers(1, size)) for size in sizes]
    steps = timesteps(counts, num_steps)
    edges = np.cumsum([0, *sizes])
    assert np.all(np.diff(steps) > 0)
    assert np.histogram(steps, bins=[*edges[:-1], edges[-1] + 1])[0].tolist() == counts
    assert steps[0] == 0


@given(st.sampled_from(["ddim", "uniform", "quad"]), st.integers(1, 400), st.integers(2, 400))
def test_named_stay_inside_or_name_near_ones(name, count, num_steps):
    try:
        steps = timesteps(f"{name}{count}", num_steps)
    except UserError as error:
        near = str(error).split(": ")[-1].split(", ")
        assert 1 <= len(near) <= 2
        for spec in near:
            assert len(timesteps(spec, num_steps)) >= 1
        return
    assert np.all(np.diff(steps) >= 0)
    assert steps[0] >= 0 and steps[-1] < num_steps
    assert name != "ddim" or len(steps) == count


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("ddim51", "ddim50, ddim53"),
        ("uniform600", "uniform500$"),
        ("uniform37", "uniform35, uniform38"),  # LDM's own program runs past its table here
        ("1001", "at most 1000"),
        ("600,600", "section 1 of 2"),
        ("0", "not all 0"),
        ("fast", "not known"),
        ("ddim", "not known"),
        ("10,,20", "not known"),
        ("-5", "not known"),
        ([], "not all 0"),
    ],
)
def test_refusals(spec, words):
    with pytest.raises(UserError, match=words):
        timesteps(spec, 1000)
