"""JAX is kept from looking for TPUs only where there are none and nothing else was asked for."""

import importlib.util
import os

import pytest

from pdm_jax import machine


@pytest.mark.parametrize(
    "packages, tpu, before, after",
    [
        ({"libtpu"}, False, None, "cpu"),
        ({"libtpu"}, True, None, None),
        ({"libtpu"}, False, "tpu", "tpu"),
        ({"libtpu", "jax_cuda12_plugin"}, False, None, None),
        (set(), False, None, None),
    ],
)
def test_an_absent_tpu_is_passed_over(monkeypatch, packages, tpu, before, after):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name if name in packages else None)
    monkeypatch.setattr(machine, "has_tpu", lambda: tpu)
    monkeypatch.setattr(os, "environ", {} if before is None else {"JAX_PLATFORMS": before})
    machine.pass_over_absent_tpu()
    assert os.environ.get("JAX_PLATFORMS") == after
