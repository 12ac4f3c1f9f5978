import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax import lax

from pdm_jax.networks.frozen import ConvRelu, average_pool, max_pool

X = jnp.asarray(np.random.RandomState(0).randn(2, 9, 8, 4), jnp.float32)


@pytest.mark.parametrize("kernel, stride, padding", [((1, 1), 1, "SAME"), ((3, 5), 1, "VALID"), ((3, 3), 2, 2)])
def test_every_way_is_the_same_convolution(kernel, stride, padding):
    conv = ConvRelu(4, 6, kernel, stride=stride, padding=padding, rngs=nnx.Rngs(0))
    conv.bias[...] = jnp.arange(6, dtype=jnp.float32)
    sides = ((padding, padding),) * 2 if padding == 2 else padding
    layout = ("NHWC", "HWIO", "NHWC")
    wanted = lax.conv_general_dilated(X, conv.kernel[...], (stride,) * 2, sides, dimension_numbers=layout)
    wanted = jax.nn.relu(wanted + conv.bias[...][None, None, None])
    np.testing.assert_allclose(conv(X), wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("size, stride, padding", [(3, 2, 0), (2, 2, 0), (3, 1, 1)])
def test_max_pool_is_xlas(size, stride, padding):
    sides = ((0, 0), (padding, padding), (padding, padding), (0, 0))
    wanted = lax.reduce_window(X, -np.inf, lax.max, (1, size, size, 1), (1, stride, stride, 1), sides)
    np.testing.assert_array_equal(max_pool(X, size, stride, padding), wanted)


def test_average_pool_does_not_count_what_lies_beyond_the_border():
    found = average_pool(X)
    np.testing.assert_allclose(found[:, 0, 0], X[:, :2, :2].mean((1, 2)), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(found[:, 4, 4], X[:, 3:6, 3:6].mean((1, 2)), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(average_pool(jnp.ones_like(X)), 1, rtol=1e-6)
