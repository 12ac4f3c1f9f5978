"""The convolution and its gradients are lax's own, on CPUs by another way."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from pdm_jax.ops.convolution import convolve


def _arrays(shape, features, dtype=jnp.float32):
    x_key, kernel_key = jax.random.split(jax.random.key(0))
    x = jax.random.normal(x_key, shape, dtype)
    return x, jax.random.normal(kernel_key, (3, 3, shape[-1], features), dtype) / 3


def _reference(x, kernel, stride=1):
    return lax.conv_general_dilated(x, kernel, (stride, stride), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))


def _loss(function, *args):
    return lambda x, kernel: jnp.sum(jnp.sin(function(x, kernel, *args)))


def _assert_close(a, b, tolerance=1e-5):
    scale = np.abs(np.asarray(b, np.float32)).max()
    np.testing.assert_allclose(np.asarray(a, np.float32), np.asarray(b, np.float32), rtol=0, atol=tolerance * scale)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("shape", [(4, 16, 16, 4), (6, 17, 19, 3), (2, 33, 35, 2), (3, 5, 7, 4), (1, 40, 8, 1)])
def test_values_and_gradients_are_those_of_lax(shape, stride):
    x, kernel = _arrays(shape, 5)
    _assert_close(convolve(x, kernel, stride), _reference(x, kernel, stride))
    ours = jax.jit(jax.grad(_loss(convolve, stride), (0, 1)))(x, kernel)
    lax_own = jax.jit(jax.grad(_loss(_reference, stride), (0, 1)))(x, kernel)
    for a, b in zip(ours, lax_own, strict=True):
        _assert_close(a, b)


def test_gradients_under_remat():
    x, kernel = _arrays((2, 16, 16, 4), 4)
    ours = jax.jit(jax.grad(jax.checkpoint(_loss(convolve)), (0, 1)))(x, kernel)
    for a, b in zip(ours, jax.grad(_loss(_reference), (0, 1))(x, kernel), strict=True):
        _assert_close(a, b)


def test_gradients_on_a_mesh():
    x, kernel = _arrays((16, 16, 16, 4), 4)
    mesh = Mesh(np.array(jax.devices()), ("data",))
    batch, whole = (NamedSharding(mesh, PartitionSpec(*axes)) for axes in (("data",), ()))
    gradient = jax.jit(jax.grad(_loss(convolve), (0, 1)), out_shardings=(batch, whole))
    ours = gradient(jax.device_put(x, batch), jax.device_put(kernel, whole))
    for a, b in zip(ours, jax.grad(_loss(_reference), (0, 1))(x, kernel), strict=True):
        _assert_close(a, b)


def test_bfloat16_sums_in_float32():
    x, kernel = _arrays((8, 16, 16, 4), 4, jnp.bfloat16)
    g = jnp.ones((8, 16, 16, 4), jnp.bfloat16)
    (ours,) = jax.vjp(lambda kernel: convolve(x, kernel), kernel)[1](g)
    (exact,) = jax.vjp(lambda k: _reference(x.astype(jnp.float32), k), kernel.astype(jnp.float32))[1](
        g.astype(jnp.float32)
    )
    assert ours.dtype == jnp.bfloat16
    _assert_close(ours, exact, 2**-8)


@pytest.mark.parametrize("platform", ["tpu", "cuda"])
def test_accelerators_keep_the_gradient_of_xla(platform):
    x, kernel = _arrays((4, 16, 16, 4), 4)
    traced = jax.jit(jax.grad(_loss(convolve), (0, 1))).trace(x, kernel)
    text = traced.lower(lowering_platforms=(platform,)).as_text()
    assert text.count("stablehlo.convolution") == 3
    assert "stablehlo.dot_general" not in text
    assert "stablehlo.dot_general" in traced.lower(lowering_platforms=("cpu",)).as_text()
