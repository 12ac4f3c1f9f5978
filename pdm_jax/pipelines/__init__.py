"""Pipelines: a denoiser as one jitted function, from keys and conditions to images, or from images to their bound."""

from pdm_jax.pipelines.generate import generate as generate
from pdm_jax.pipelines.generate import make_generate as make_generate
from pdm_jax.pipelines.likelihood import make_bits as make_bits
