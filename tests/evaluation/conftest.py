"""A feature network that needs no weights, small sets of images, and an environment with the programs to agree with."""

import subprocess
import venv

import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from pdm_jax.evaluation.networks import FeatureNetwork, PerceptualNetwork


def simple_features(name="simple", scale=1.0):
    """Means of the four quarters and some logits, of images of any size."""

    def apply(params, images):
        x = images.astype(jnp.float32).mean(-1) * params["scale"]
        height, width = x.shape[1] // 2, x.shape[2] // 2
        quarters = [x[:, :height, :width], x[:, height:, :width], x[:, :height, width:], x[:, height:, width:]]
        pool = jnp.stack([quarter.mean((1, 2)) for quarter in quarters], -1) / 100
        return {"pool": pool, "logits": 10 * pool[:, :3]}

    return FeatureNetwork(name, {"scale": np.float32(scale)}, apply, {"pool": 4, "logits": 3}, "none")


def mean_distance(name="simple"):
    def apply(params, a, b):
        return jnp.abs(a.astype(jnp.float32) - b.astype(jnp.float32)).mean((1, 2, 3))

    return PerceptualNetwork(name, {}, apply)


PROGRAMS = (
    *("torch", "torchvision", "torch-fidelity==0.4.0", "pytorch-fid==0.3.0", "clean-fid==0.1.35", "lpips==0.1.4"),
    *("torchmetrics==1.9.0", "transformers==5.23.0", "scikit-image==0.26.0", "pillow"),
)


@pytest.fixture(scope="session")
def programs(tmp_path_factory):
    """A Python with the programs that metrics must agree with; installing them takes minutes and gigabytes."""
    folder = tmp_path_factory.mktemp("programs")
    venv.create(folder, with_pip=True)
    python = folder / "bin" / "python"
    subprocess.run([python, "-m", "pip", "install", "--quiet", *PROGRAMS], check=True)
    return python


@pytest.fixture
def noise_images():
    """Images (n, 12, 12, 3) of different brightness."""

    def make(n, seed=0, sigma=20):
        generator = np.random.default_rng(seed)
        levels = generator.uniform(60, 190, (n, 1, 1, 1)) + generator.normal(0, sigma, (n, 12, 12, 3))
        return np.clip(levels, 0, 255).astype(np.uint8)

    return make


@pytest.fixture
def folder_of(tmp_path):
    """Writes images to a folder of PNGs; returns its path."""

    def write(name, images):
        (tmp_path / name).mkdir()
        for i, image in enumerate(images):
            Image.fromarray(image.squeeze()).save(tmp_path / name / f"{i:03d}.png")
        return tmp_path / name

    return write
