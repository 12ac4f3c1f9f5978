"""Pipelines: a denoiser and a sampler as one jitted function from keys and conditions to images."""

from pdm_jax.pipelines.generate import generate as generate
from pdm_jax.pipelines.generate import make_generate as make_generate
