import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pdm_jax.errors import UserError
from pdm_jax.evaluation import pretrained
from pdm_jax.interop import safetensors_files
from tests.evaluation.random_weights import (
    BACKBONE_SHAPES,
    HEAD_SHAPES,
    INCEPTION_SHAPES,
    make_images,
    make_weights,
)


@pytest.fixture(scope="module")
def stored(golden):
    with np.load(golden / "evaluation" / "networks.npz") as file:
        return dict(file)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Random weights as files, by the networks' names."""
    folder = tmp_path_factory.mktemp("weights")
    files = {"inception": INCEPTION_SHAPES, **BACKBONE_SHAPES}
    files |= {f"{name}_heads": shapes for name, shapes in HEAD_SHAPES.items()}
    for name, shapes in files.items():
        safetensors_files.write(folder / f"{name}.safetensors", make_weights(shapes), {})
    return folder


def open_lpips(folder, backbone, **options):
    files = [folder / f"{name}.safetensors" for name in (backbone, f"{backbone}_heads")]
    return pretrained.open_lpips(backbone, *files, **options)


def close(got, wanted):
    """Within 1e-4 of the features' own size."""
    np.testing.assert_allclose(got, wanted, rtol=1e-4, atol=1e-4 * np.abs(wanted).mean())


def test_inception_agrees_with_torch_fidelity(folder, stored):
    network = pretrained.open_inception(folder / "inception.safetensors", "tensorflow")
    features = jax.jit(network.apply)(network.params, jnp.asarray(make_images(2, 80, 64)))
    assert {name: value.shape for name, value in features.items()} == {
        name: (2, size) for name, size in network.outputs.items()
    }
    for name, value in features.items():
        close(value, stored[f"inception_{name}"])


@pytest.mark.parametrize("resize", ["clean", "pytorch"])
def test_inception_agrees_with_clean_fid_and_pytorch_fid(folder, stored, resize):
    network = pretrained.open_inception(folder / "inception.safetensors", resize)
    features = jax.jit(network.apply)(network.params, jnp.asarray(make_images(2, 80, 64)))
    close(features["pool"], stored[f"inception_pool_{resize}"])
    assert network.identity["resize"] == resize


def test_the_kinds_of_resize_can_be_told_apart(stored):
    for resize in ("clean", "pytorch"):
        with pytest.raises(AssertionError):
            close(stored["inception_pool"], stored[f"inception_pool_{resize}"])


@pytest.mark.parametrize("backbone", ["alex", "vgg"])
def test_lpips_agrees_with_the_lpips_package(folder, stored, backbone):
    network = open_lpips(folder, backbone)
    a, b = (jnp.asarray(make_images(2, 80, 64, seed)) for seed in (0, 1))
    distances = jax.jit(network.apply)(network.params, a, b)
    np.testing.assert_allclose(distances, stored[f"lpips_{backbone}"], rtol=0, atol=1e-4)


@pytest.mark.parametrize("backbone", ["alex", "vgg"])
def test_lpips_takes_grey_images_from_its_least_size_on(folder, backbone):
    network = open_lpips(folder, backbone)
    apply = jax.jit(network.apply)

    def distance(size, channels):
        a, b = (jnp.asarray(make_images(1, size, 40, seed))[..., :1].repeat(channels, -1) for seed in (0, 1))
        return apply(network.params, a, b)

    assert distance(network.least_size, 1) == distance(network.least_size, 3) > 0
    assert np.isnan(distance(network.least_size - 1, 1))  # the mean of no pixel


def test_lpips_is_a_loss_in_bfloat16_too(folder):
    files = [folder / f"{name}.safetensors" for name in ("alex", "alex_heads")]
    a, b = (jnp.asarray(make_images(1, 40, 40, seed), jnp.float32) / 127.5 - 1 for seed in (0, 1))
    values = []
    for dtype in (jnp.float32, jnp.bfloat16):
        definition, params = pretrained.load_lpips("alex", *files, dtype=dtype)
        loss = lambda a, definition=definition, params=params: definition.bind(params)(a, b).sum()  # noqa: E731
        value, gradient = jax.jit(jax.value_and_grad(loss))(a)
        assert np.isfinite(gradient).all() and np.abs(gradient).max() > 0
        values.append(value)
    np.testing.assert_allclose(values[1], values[0], rtol=0.02)


@pytest.mark.parametrize(
    ("file", "open_file", "message"),
    [
        ("alex", lambda path: pretrained.open_inception(path, "clean"), "FID's InceptionV3: .* 472 missing: .*10 sur"),
        ("vgg", pretrained.open_vgg16, r"torchvision's VGG16: .* 4 missing: classifier.0.weight .wanted .4096, 25088"),
        ("alex", lambda path: pretrained.open_lpips("vgg", path, path), "torchvision's VGG16: .*features.0.weight"),
        ("alex", lambda path: pretrained.open_lpips("alex", path, path), "LPIPS's heads for alex: .*lin0.model.1"),
    ],
)
def test_a_foreign_file_is_one_line_that_says_so(folder, file, open_file, message):
    with pytest.raises(UserError, match=rf"{file}.safetensors is no file of {message}") as error:
        open_file(folder / f"{file}.safetensors")
    assert "\n" not in str(error.value)


def test_a_file_cut_short_is_named(folder, tmp_path):
    path = tmp_path / "inception.safetensors"
    path.write_bytes((folder / "inception.safetensors").read_bytes()[:100_000])
    with pytest.raises(UserError, match=r"inception.safetensors is not a sound"):
        pretrained.open_inception(path, "clean")


def test_unknown_choices_are_named(folder):
    with pytest.raises(UserError, match="choose one of clean, tensorflow, pytorch"):
        pretrained.open_inception(folder / "inception.safetensors", "bicubic")
    with pytest.raises(UserError, match="no backbone 'squeeze'; choose one of alex, vgg"):
        open_lpips(folder, "squeeze")
