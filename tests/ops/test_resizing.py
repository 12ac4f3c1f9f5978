import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from pdm_jax.errors import UserError
from pdm_jax.ops.resizing import matrix, resize
from tests.evaluation.random_weights import make_images

sizes = st.integers(1, 70)
kinds = st.sampled_from(["clean", "pytorch", "tensorflow"])


@given(sizes, sizes, sizes, sizes)
@settings(max_examples=25)
def test_clean_is_pil_bicubic_on_floats(height, width, new_height, new_width):
    channel = make_images(1, height, width)[0, ..., 0]
    image = Image.fromarray(channel.astype(np.float32))  # mode F
    wanted = np.asarray(image.resize((new_width, new_height), Image.Resampling.BICUBIC)).clip(0, 255)
    rows, columns = matrix("clean", height, new_height), matrix("clean", width, new_width)
    np.testing.assert_allclose((rows @ channel @ columns.T).clip(0, 255), wanted, atol=1e-3)


@given(kinds, sizes, sizes)
@settings(max_examples=5)
def test_resize_applies_the_weights_to_rows_and_columns(kind, height, width):
    image = make_images(1, 12, 9)
    wanted = np.einsum("ph,bhwc,qw->bpqc", matrix(kind, 12, height), image, matrix(kind, 9, width)).clip(0, 255)
    got = resize(jnp.asarray(image), (height, width), kind)
    assert got.dtype == jnp.float32
    np.testing.assert_allclose(got, wanted, atol=1e-3)


@given(kinds, sizes, sizes)
def test_weights_sum_to_one_and_the_same_size_changes_nothing(kind, old, new):
    np.testing.assert_allclose(matrix(kind, old, new).sum(1), 1, atol=1e-12)
    np.testing.assert_array_equal(matrix(kind, old, old), np.eye(old))


def test_only_clean_looks_at_every_pixel_when_it_shrinks():
    assert [bool((matrix(kind, 60, 12) != 0).any(0).all()) for kind in ("clean", "pytorch", "tensorflow")] == [
        True,
        False,
        False,
    ]


def test_an_unknown_kind_is_named():
    with pytest.raises(UserError, match="by 'area'; choose clean, pytorch or tensorflow"):
        matrix("area", 4, 2)
