"""The vision transformer: what it starts as, what its output depends on, precision, gradients, and its errors."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from pdm_jax.errors import UserError
from pdm_jax.networks import count_params, define
from pdm_jax.networks.vit import Attention, Block, ViT, rotary_angles, rotate
from pdm_jax.types import Cond

SETTINGS = {"channels": 12, "width": 16, "depth": 2, "head_dim": 8, "num_classes": 3}
Z = jax.random.normal(jax.random.key(1), (2, 4, 4, 12))
T = jnp.array([3, 700])
COND = Cond(label=jnp.array([1, 3]))


def make(**settings):
    return define(lambda rngs: ViT(**(SETTINGS | settings), rngs=rngs))


def noisy(definition):
    """Parameters without the zeros of the initialisation, so that everything has an effect."""
    leaves, tree = jax.tree.flatten(definition.shapes)
    generator = np.random.default_rng(0)
    return jax.tree.unflatten(tree, [0.2 * generator.standard_normal(leaf.shape, np.float32) for leaf in leaves])


DEFINITION = make()
NOISY = noisy(DEFINITION)


@jax.jit
def apply(params, z=Z, t=T, label=COND.label):
    return DEFINITION.bind(params)(z, t, Cond(label=label))


def close(got, expected, tolerance=1e-4):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance), got, expected)


def distance(got, expected):
    return np.abs(got[0] - expected[0]).max()


def test_starts_at_zero_and_halfway_between_the_variances():
    output, variance = apply(jax.jit(DEFINITION.init)(jax.random.key(0)))
    np.testing.assert_array_equal(output, jnp.zeros_like(Z))
    np.testing.assert_array_equal(variance, jnp.full_like(Z, 0.5))


def test_every_block_starts_as_the_identity():
    block = Block(16, 8, 4.0, dtype=jnp.float32, rngs=nnx.Rngs(0))
    x, signal = jax.random.normal(jax.random.key(2), (2, 6, 16)), jnp.ones((2, 16))
    angles = rotary_angles(2, 3, 8)
    np.testing.assert_array_equal(block(x, signal, angles), x)
    assert np.any(block.attention(x, angles)) and np.any(block.mlp_in(x))


def test_blocks_start_different_from_each_other():
    kernel = jax.jit(DEFINITION.init)(jax.random.key(0))["blocks"]["mlp_in"]["kernel"]
    assert kernel.shape == (2, 16, 64)
    assert np.abs(kernel[0] - kernel[1]).max() > 0.1
    limit = np.sqrt(6 / (16 + 64))  # of each block, not of their stack
    assert 0.95 * limit < np.abs(kernel).max() <= limit


def test_scanned_blocks_are_the_blocks_one_after_the_other():
    vit = DEFINITION.bind(NOISY)
    x, signal, angles = jax.random.normal(jax.random.key(2), (2, 6, 16)), jnp.ones((2, 16)), rotary_angles(2, 3, 8)
    graphdef, params = nnx.split(vit.blocks)
    expected = x
    for i in range(SETTINGS["depth"]):
        expected = nnx.merge(graphdef, jax.tree.map(lambda p, i=i: p[i], params))(expected, signal, angles)
    close(vit._run_blocks(x, signal, angles), expected)


def test_sizes_of_dit_b():
    """A block has the 18 D^2 weights of DiT's, which is most of it."""
    definition = make(channels=16, width=768, depth=12, head_dim=64)
    assert count_params(definition.shapes["blocks"]) == 12 * (18 * 768**2 + 15 * 768 + 2 * 64)
    z, label = jax.ShapeDtypeStruct((2, 16, 16, 16), jnp.float32), jax.ShapeDtypeStruct((2,), jnp.int32)
    output, variance = jax.eval_shape(
        lambda p, z, t: definition.bind(p)(z, t, Cond(label=t)), definition.shapes, z, label
    )
    assert output.shape == variance.shape == z.shape


def test_without_classes_or_variance():
    definition = make(num_classes=0, learn_variance=False)
    output, variance = jax.eval_shape(lambda p: definition.bind(p)(Z, T, Cond()), definition.shapes)
    assert output.shape == Z.shape and variance is None
    assert "label" not in definition.shapes["signal"] and "variance_head" not in definition.shapes


def test_places_matter():
    """Moving tokens about does not merely move the outputs about: rows are known from columns, and far from near."""
    turned = apply(NOISY, Z.swapaxes(1, 2))
    moved = apply(NOISY, jnp.roll(Z, 1, axis=2))
    assert distance([turned[0].swapaxes(1, 2)], apply(NOISY)) > 1e-3
    assert distance([jnp.roll(moved[0], -1, axis=2)], apply(NOISY)) > 1e-3


def test_turning_makes_attention_see_distances_only():
    """The product of a query and a key depends on how far apart they lie, on every grid."""
    angles = rotary_angles(3, 4, 8).reshape(3, 4, 4)
    q, k = jax.random.normal(jax.random.key(3), (2, 1, 1, 1, 8))

    def product(q_place, k_place):
        return jnp.sum(rotate(q, angles[q_place][None]) * rotate(k, angles[k_place][None]))

    close(product((0, 0), (1, 2)), product((1, 1), (2, 3)))
    assert abs(product((0, 0), (1, 2)) - product((0, 0), (2, 1))) > 1e-3
    np.testing.assert_array_equal(rotary_angles(5, 9, 8).reshape(5, 9, 4)[:3, :4], angles)


def test_normed_queries_and_keys_bound_the_attention():
    attention = Attention(16, 8, dtype=jnp.float32, rngs=nnx.Rngs(0))
    x, angles = jax.random.normal(jax.random.key(2), (1, 6, 16)), rotary_angles(2, 3, 8)
    before = attention(x, angles)
    kernel = attention.qkv.kernel[...]
    attention.qkv.kernel[...] = kernel.at[:, :32].multiply(1e3)  # queries and keys, not values
    close(attention(x, angles), before, 1e-3)


def test_another_grid():
    output, variance = apply(NOISY, jax.random.normal(jax.random.key(4), (2, 3, 5, 12)))
    assert output.shape == variance.shape == (2, 3, 5, 12)
    assert np.isfinite(output).all()


def test_samples_do_not_mix_and_one_step_serves_all():
    output, variance = apply(NOISY, Z, T[:1], COND.label)
    alone = apply(NOISY, Z[1:], T[:1], COND.label[1:])
    close(alone, (output[1:], variance[1:]))


def test_label_and_step_matter():
    expected = apply(NOISY)
    assert distance(apply(NOISY, Z, T, jnp.array([2, 0])), expected) > 1e-3
    assert distance(apply(NOISY, Z, T + 100), expected) > 1e-3


def test_the_last_label_is_the_null():
    """Only its row of the table makes the second sample, which has no class."""
    table = NOISY["signal"]["label"]["embedding"]
    assert table.shape == (4, 16)
    params = NOISY | {"signal": NOISY["signal"] | {"label": {"embedding": np.r_[table[:3], table[3:] + 1]}}}
    changed = np.abs(apply(params)[0] - apply(NOISY)[0]).max((1, 2, 3))
    assert changed[0] < 1e-5 and changed[1] > 1e-3


def test_bfloat16_keeps_float32_where_it_matters():
    definition = make(dtype=jnp.bfloat16)
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(definition.shapes))
    rough, rough_variance = jax.jit(lambda p: definition.bind(p)(Z, T, COND))(NOISY)
    output, variance = apply(NOISY)
    assert rough.dtype == rough_variance.dtype == jnp.float32
    assert 0 < np.abs(rough - output).max() < 0.1 * np.abs(output).max()
    assert np.abs(rough_variance - variance).max() < 0.1


def test_remat_recomputes_the_dense_layers_and_changes_nothing():
    def compute(use_remat):
        definition = make(use_remat=use_remat)
        loss = jax.value_and_grad(lambda p: sum(jnp.sum(jnp.sin(o)) for o in definition.bind(p)(Z, T, COND)))
        return str(jax.make_jaxpr(loss)(NOISY)).count("dot_general["), jax.jit(loss)(NOISY)

    (kept_products, kept), (redone_products, redone) = compute(False), compute(True)
    assert redone_products - kept_products == 5  # qkv, attention's output, the perceptron's two, the modulation
    close(redone, kept, 1e-3)


def test_two_steps_wake_all_parameters():
    """The zeros of heads and gates hold gradients back for two steps, then every parameter has one."""
    params = jax.jit(DEFINITION.init)(jax.random.key(0))
    gradient = jax.jit(jax.grad(lambda p: sum(jnp.mean((o - Z) ** 2) for o in DEFINITION.bind(p)(Z, T, COND))))
    for _ in range(2):
        params = jax.tree.map(lambda p, g: p - 0.1 * jnp.sign(g), params, gradient(params))
    for path, leaf in jax.tree_util.tree_leaves_with_path(gradient(params)):
        assert np.isfinite(leaf).all() and np.any(leaf), jax.tree_util.keystr(path)


def test_the_variance_trains_its_head_alone():
    grads = jax.jit(jax.grad(lambda p: jnp.sum(DEFINITION.bind(p)(Z, T, COND)[1])))(NOISY)
    reached = {name for name, tree in grads.items() if any(np.any(leaf) for leaf in jax.tree.leaves(tree))}
    assert reached == {"variance_head"}


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"depth": 0}, "network.depth is 0"),
        ({"head_dim": 6}, "multiple of 4"),
        ({"mlp_ratio": 0}, "network.mlp_ratio is 0"),
        ({"width": 20}, "network.width is 20; expected a multiple of network.head_dim, 8"),
    ],
)
def test_settings_that_do_not_fit(settings, words):
    with pytest.raises(UserError) as caught:
        nnx.eval_shape(lambda: ViT(**(SETTINGS | settings), rngs=nnx.Rngs(0)))
    assert words in str(caught.value) and "\n" not in str(caught.value)


def test_labels_are_asked_for():
    with pytest.raises(UserError, match="has 3 classes and needs labels"):
        DEFINITION.bind(NOISY)(Z, T, Cond())
