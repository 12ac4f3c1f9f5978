"""The bound, by hand."""

import pytest

from pdm_jax.planning.roofline import bound_of, ridge
from pdm_jax.planning.slices import find_slices
from tests.planning.made_up import measured


@pytest.mark.parametrize(
    "name, compute, memory, network",
    [("v2-8", 2 / 45, 0.02 / 0.7, 1e9 / 248e9), ("v5e-8", 1 / 197, 0.01 / 0.819, 1e9 / 200e9)],
)
def test_what_each_resource_needs(name, compute, memory, network):
    bound = bound_of(measured(flops=1e12, bytes_accessed=1e10), find_slices(name)[0])
    assert (bound.compute, bound.memory, bound.network) == pytest.approx((compute, memory, network))
    assert bound.seconds == max(bound.compute, bound.memory, bound.network)
    assert bound.limit == ("compute" if name == "v2-8" else "memory")


def test_what_does_not_fit_has_no_bound():
    assert bound_of(measured(fits=False, flops=None), find_slices("v2-8")[0]) is None


def test_the_ridge_is_per_chip():
    assert ridge(find_slices("v2-8")[0]) == pytest.approx(45e12 / 700e9)
