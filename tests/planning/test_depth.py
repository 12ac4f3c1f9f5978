"""Estimates from one and two blocks."""

import dataclasses

import pytest

from pdm_jax.errors import UserError
from pdm_jax.planning.depth import blocks_of, extrapolated, with_blocks
from pdm_jax.systems import parts_of
from tests import tiny
from tests.planning.made_up import GIB, measured

NETWORK = tiny.SETTINGS["model"]["network"]


def with_network(**changes):
    return tiny.config(model={"network": {**NETWORK, **changes}})


def test_how_deep_a_network_is():
    assert blocks_of(with_network(num_blocks=5)) == 5
    assert blocks_of(with_network(num_blocks=(3,))) == 3
    assert blocks_of(tiny.config(model={"backbone": "vit", "network": {"width": 32, "depth": 9}})) is None


@pytest.mark.parametrize("network", [{"num_blocks": (2, 3)}, {"width": 3}])
def test_depths_that_no_line_goes_through(network):
    with pytest.raises(UserError, match="--quick extrapolates one number of blocks for all levels"):
        blocks_of(tiny.config(model={"network": network}))


def test_all_parts_become_as_shallow():
    own = {"model": {"network": {"num_blocks": 4, "width": 64}}}
    config = tiny.config(model={"network": {**NETWORK, "num_blocks": 3}}, split={"snr": 0.25, "parts": ({}, own)})
    high, low = (part.config.model.network for part in parts_of(with_blocks(config, 1)))
    assert (high["num_blocks"], low["num_blocks"], low["width"]) == (1, 1, 64)


def test_the_line_through_one_and_two():
    one = measured(peak_bytes=2 * GIB, flops=1e12, collectives={"all-reduce": (3, 1e9)}, seconds=10)
    two = measured(peak_bytes=3 * GIB, flops=1.5e12, collectives={"all-reduce": (4, 2e9), "all-gather": (1, 5.0)})
    at = extrapolated(one, two, 4, memory=8 * GIB)
    assert (at.peak_bytes, at.flops, at.fits) == (5 * GIB, 2.5e12, True)
    assert at.collectives == {"all-reduce": (6, 4e9), "all-gather": (3, 15.0)}
    assert not extrapolated(one, two, 8, memory=8 * GIB).fits


def test_a_block_that_does_not_fit_leaves_memory_alone():
    two = dataclasses.replace(
        measured(fits=False, peak_bytes=12 * GIB), flops=None, bytes_accessed=None, collectives={}
    )
    at = extrapolated(measured(), two, 3, memory=8 * GIB)
    assert (at.peak_bytes, at.flops, at.fits) == (15 * GIB, None, False)
