"""Do our networks say what the official programs said? For stored numbers and for fresh ones.

`folder` has the weights, files of the names in `make_golden_networks` with any suffix; `results` is its `networks.npz`.
"""

import jax
import jax.numpy as jnp
import numpy as np

from pdm_jax.evaluation import pretrained
from pdm_jax.ops.resizing import resize
from tests.evaluation.random_weights import make_images


def images(seed=0):
    return jnp.asarray(make_images(2, 80, 64, seed))


def weights(folder, name):
    return next(folder.glob(f"{name}.[ps]*"))


def features(network):
    return jax.jit(network.apply)(network.params, images())


def close(got, wanted):
    """Within 1e-4, relative; a feature near zero within 1e-4 of the mean one."""
    np.testing.assert_allclose(got, wanted, rtol=1e-4, atol=1e-4 * np.abs(wanted).mean())


def inception_is_torch_fidelitys(folder, results):
    network = pretrained.open_inception(weights(folder, "inception"), "tensorflow")
    found = features(network)
    assert {name: value.shape for name, value in found.items()} == {
        name: (2, size) for name, size in network.outputs.items()
    }
    for name, value in found.items():
        close(value, results[f"inception_{name}"])


def inception_is_pytorch_fids(folder, results):
    network = pretrained.open_inception(weights(folder, "inception"), "pytorch")
    close(features(network)["pool"], results["inception_pool_pytorch"])


def inception_is_clean_fids(folder, results):
    network = pretrained.open_inception(weights(folder, "inception"), "clean")
    close(features(network)["pool"], results["inception_pool_clean"])


def vgg16_is_torch_fidelitys(folder, results):
    network = pretrained.open_vgg16(weights(folder, "vgg"))
    close(features(network)["fc2"], results["vgg16_fc2"])


def lpips_of_alexnet_is_the_packages(folder, results):
    _lpips(folder, results, "alex")


def lpips_of_vgg16_is_the_packages(folder, results):
    _lpips(folder, results, "vgg")


def resizing_is_every_programs(folder, results):
    del folder
    for name in (name for name in results if name.startswith("resized")):
        _, kind, size = name.split("_")
        height, width = map(int, size.split("x"))
        got = resize(images()[:1, :40, :33], (height, width), kind)
        np.testing.assert_allclose(got, results[name], atol=1e-3, err_msg=name)


def _lpips(folder, results, backbone):
    network = pretrained.open_lpips(backbone, weights(folder, backbone), weights(folder, f"{backbone}_heads"))
    distances = jax.jit(network.apply)(network.params, images(), images(seed=1))
    np.testing.assert_allclose(distances, results[f"lpips_{backbone}"], rtol=0, atol=1e-4)


QUICK = [
    inception_is_torch_fidelitys,
    inception_is_pytorch_fids,
    inception_is_clean_fids,
    lpips_of_alexnet_is_the_packages,
    lpips_of_vgg16_is_the_packages,
    resizing_is_every_programs,
]
ALL = [*QUICK, vgg16_is_torch_fidelitys]  # the classifier has 120 M parameters
