import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pdm_jax.errors import UserError
from pdm_jax.evaluation import pretrained
from pdm_jax.interop import inception as inception_files
from pdm_jax.interop import safetensors_files, torchvision_files
from pdm_jax.networks import define
from pdm_jax.networks.inception import InceptionV3
from pdm_jax.networks.lpips import LPIPS
from tests.evaluation import network_checks
from tests.evaluation.random_weights import make_images, make_weights


@pytest.fixture(scope="module")
def results(golden):
    with np.load(golden / "evaluation" / "networks.npz") as file:
        return dict(file)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Random weights as files; of VGG16 without its classifier."""
    folder = tmp_path_factory.mktemp("weights")
    alex, vgg = (define(lambda rngs, name=name: LPIPS(name, rngs=rngs)).shapes for name in ("alex", "vgg"))
    shapes = {
        "inception": inception_files.official_shapes(define(lambda rngs: InceptionV3(rngs=rngs)).shapes),
        "alex": torchvision_files.alexnet_shapes(alex["backbone"]),
        "alex_heads": torchvision_files.head_shapes(alex["heads"]),
        "vgg": torchvision_files.vgg16_shapes(vgg["backbone"]),
        "vgg_heads": torchvision_files.head_shapes(vgg["heads"]),
    }
    for name, wanted in shapes.items():
        safetensors_files.write(folder / f"{name}.safetensors", make_weights(wanted), {})
    return folder


def open_lpips(folder, backbone):
    files = [folder / f"{name}.safetensors" for name in (backbone, f"{backbone}_heads")]
    return pretrained.open_lpips(backbone, *files)


@pytest.mark.parametrize("check", network_checks.QUICK, ids=lambda check: check.__name__)
def test_as_the_official_programs(check, folder, results):
    check(folder, results)


def test_the_kinds_of_resize_can_be_told_apart(results):
    for resize in ("clean", "pytorch"):
        with pytest.raises(AssertionError):
            network_checks.close(results["inception_pool"], results[f"inception_pool_{resize}"])


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
    a, b = (jnp.asarray(make_images(1, 32, 32, seed), jnp.float32) / 127.5 - 1 for seed in (0, 1))
    exact, params = pretrained.load_lpips("alex", *files)
    fast, _ = pretrained.load_lpips("alex", *files, dtype=jnp.bfloat16)
    loss, gradient = jax.jit(jax.value_and_grad(lambda a: exact.bind(params)(a, b).sum()))(a)
    assert np.isfinite(gradient).all() and np.abs(gradient).max() > 0
    np.testing.assert_allclose(jax.jit(lambda params: fast.bind(params)(a, b).sum())(params), loss, rtol=0.02)


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
