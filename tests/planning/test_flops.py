"""FLOPs of traced programs: products by hand, and convolutions against a count of every product."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pdm_jax.planning.flops import program_flops


def traced(function, *shapes):
    return program_flops(jax.make_jaxpr(function)(*(jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes)))


def test_a_matrix_product():
    assert traced(lambda a, b: jnp.einsum("bij,bjk->bik", a, b), (5, 2, 3), (5, 3, 7)) == 2 * 5 * 2 * 3 * 7


def test_its_gradients_are_two_more():
    forward = traced(lambda a, b: a @ b, (4, 8), (8, 16))
    both = traced(jax.grad(lambda a, b: jnp.sum((a @ b) ** 2), argnums=(0, 1)), (4, 8), (8, 16))
    assert both == 3 * forward


def test_loops_by_their_length_and_the_dearest_branch():
    def loop(x, w):
        return jax.lax.scan(lambda x, _: (x @ w, None), x, None, length=7)[0]

    def branches(x, w):
        return jax.lax.cond(x[0, 0] > 0, lambda: x @ w @ w, lambda: x @ w)

    one = 2 * 4 * 8 * 8
    assert traced(jax.jit(loop), (4, 8), (8, 8)) == 7 * one
    assert traced(branches, (4, 8), (8, 8)) == 2 * one


def test_what_is_recomputed_counts_again():
    def loss(w, x):
        return jnp.sum(jnp.sin(jnp.sin(x @ w) @ w))

    shapes, one = ((8, 8), (4, 8)), 2 * 4 * 8 * 8
    assert traced(jax.grad(loss), *shapes) == 5 * one  # two forward; x needs no gradient, its product with w does
    assert traced(jax.grad(jax.checkpoint(loss)), *shapes) > 6 * one


@pytest.mark.parametrize(
    "stride, padding, input_dilation, kernel_dilation, groups",
    [
        (1, ((1, 1), (1, 1)), 1, 1, 1),
        (2, ((0, 1), (0, 1)), 1, 1, 1),
        (1, ((2, 1), (1, 2)), 2, 1, 1),
        (1, ((2, 2), (2, 2)), 1, 2, 2),
        (3, ((-1, 4), (5, 0)), 2, 3, 1),
    ],
)
def test_a_convolution_counts_products_of_what_is_there(stride, padding, input_dilation, kernel_dilation, groups):
    """Of ones with ones, without the padding, the sum of all outputs is the number of products."""

    def convolve(image, kernel):
        return jax.lax.conv_general_dilated(
            image,
            kernel,
            (stride, stride),
            padding,
            (input_dilation, input_dilation),
            (kernel_dilation, kernel_dilation),
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
            feature_group_count=groups,
        )

    image, kernel = (2, 6, 5, 4), (3, 3, 4 // groups, 6)
    products = np.asarray(convolve(jnp.ones(image), jnp.ones(kernel))).sum()
    assert traced(convolve, image, kernel) == 2 * products


def test_gradients_of_a_strided_convolution_count_as_many_products_each():
    def convolve(x, w):
        return jax.lax.conv_general_dilated(x, w, (2, 2), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))

    shapes = (2, 8, 8, 4), (3, 3, 4, 6)
    gradients = jax.grad(lambda x, w: jnp.sum(convolve(x, w) ** 2), argnums=(0, 1))
    assert traced(gradients, *shapes) == 3 * traced(convolve, *shapes)
