"""Windows of the padded image, and the two terms of the loss by their definition."""

import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings

from pdm_jax.config import DiffusionConfig
from pdm_jax.diffusion import make_process
from pdm_jax.systems import make_system
from pdm_jax.systems.patch_loss import Patches, Window, crop, make_window, window_loss
from pdm_jax.types import Cond
from tests import tiny

PROCESS = make_process(DiffusionConfig())


@settings(max_examples=12, deadline=None)
@given(st.integers(1, 4), st.integers(1, 4), st.sampled_from([2, 4]), st.data())
def test_a_window_is_cut_anywhere_with_zeros_outside(n, m, patch_size, data):
    image = np.random.default_rng(0).integers(1, 256, (n * patch_size, m * patch_size, 3)).astype(np.uint8)
    y, x = (data.draw(st.integers(1 - patch_size, side - patch_size)) for side in image.shape[:2])
    window, inside = crop(jnp.asarray(image), jnp.array([y, x]), patch_size)
    padded = np.pad(image, [(patch_size, 2 * patch_size)] * 2 + [(0, 0)])[y + patch_size :, x + patch_size :]
    wanted = padded[: 2 * patch_size, : 2 * patch_size]
    np.testing.assert_array_equal(np.asarray(window) * np.asarray(inside, np.uint8), wanted)
    np.testing.assert_array_equal(np.asarray(inside)[..., 0], wanted[..., 0] > 0)


def test_noise_outside_the_image_is_masked():
    images = np.full((3, 8, 8, 1), 255, np.uint8)
    start = 4 * jnp.array([[0, 0], [0, 1], [1, 1]]) - 2
    keys = jax.random.split(jax.random.key(0), 3)
    window = make_window(images, start, jnp.array([999, 500, 0]), keys, PROCESS, "eps", 4)
    z_t = np.asarray(window.z_t)
    assert (z_t[0, :2] == 0).all() and (z_t[0, :, :2] == 0).all() and (z_t[0, 2:, 2:] != 0).all()
    assert (z_t[1, :, 6:] == 0).all() and (z_t[2, 6:] == 0).all()
    assert (np.asarray(window.target) != 0).all()  # the noise is drawn for the whole window
    np.testing.assert_allclose(z_t[2, :6, :6], 1, atol=0.05)


class Sums:
    """Features are z_t times the position's row; the output is features plus the position's column."""

    num_levels = 1

    def encode(self, z_t, t, cond):
        return z_t * cond.position[:, 0, None, None, None]

    def decode(self, features, t, cond):
        return features + cond.position[:, 1, None, None, None], None


@pytest.mark.parametrize("kind", ["shifted", "both", "plain"])
def test_the_terms_are_their_definition(kind):
    generator = np.random.default_rng(0)
    z_t, target = generator.normal(size=(2, 2, 8, 8, 3)).astype(np.float32)
    inside = np.ones((2, 8, 8, 1), np.float32)
    inside[:, :2] = 0
    rows, columns = np.meshgrid([3.0, 4.0], [5.0, 6.0], indexing="ij")
    position = np.broadcast_to(np.stack([rows, columns, np.ones((2, 2))], -1), (2, 2, 2, 3)).astype(np.float32)
    row_map = np.repeat(np.repeat(rows, 4, 0), 4, 1)[None, :, :, None]
    column_map = np.repeat(np.repeat(columns, 4, 0), 4, 1)[None, :, :, None]
    features = z_t * row_map
    shifted = ((features[:, 2:-2, 2:-2] + 5.5 - target[:, 2:-2, 2:-2]) ** 2).mean((1, 2, 3))
    plain = (inside * (features + column_map - target) ** 2).mean((1, 2, 3))
    wanted = {"shifted": shifted, "both": shifted + plain, "plain": plain}[kind]
    window = Window(jnp.asarray(z_t), jnp.asarray(target), jnp.asarray(inside))
    cond = Cond(position=jnp.asarray(position))
    loss, terms = window_loss(Patches(Sums(), 4), window, jnp.array([1, 2]), cond, kind)
    np.testing.assert_allclose(loss, wanted, rtol=1e-5)
    assert sorted(terms) == (["plain", "shifted"] if kind == "both" else [kind])


@pytest.fixture(scope="module")
def big_and_small():
    """Compiled gradients of the loss for two image sizes."""

    def compiled(size):
        config = tiny.patch_config(data={"image_size": size, "batch_size": 2}, codes={"kind": "none"})
        system = make_system(config)

        def loss(params, batch, keys):
            return system.losses["network"](params, batch, keys, jnp.int32(0))[0].mean()

        batch = {"image": jax.ShapeDtypeStruct((2, size, size, 3), jnp.uint8)}
        keys = jax.eval_shape(lambda: jax.random.split(jax.random.key(0), 2))
        return jax.jit(jax.grad(loss)).lower(system.shapes, batch, keys).compile()

    return compiled(512), compiled(64)


def test_memory_does_not_grow_with_the_image(big_and_small):
    big, small = (program.memory_analysis().temp_size_in_bytes for program in big_and_small)
    assert big <= 1.05 * small
