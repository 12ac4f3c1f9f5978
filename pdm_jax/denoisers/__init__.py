"""Denoisers: a network bound to its parameters, and the wrappers that change how it sees space, time or condition."""

from pdm_jax.denoisers.bind import bind as bind
from pdm_jax.denoisers.collaged import collaged as collaged
from pdm_jax.denoisers.guided import guided as guided
from pdm_jax.denoisers.patched import patched as patched
from pdm_jax.denoisers.split import split as split
from pdm_jax.denoisers.steered import classifier_guided as classifier_guided
from pdm_jax.denoisers.steered import image_guided as image_guided
from pdm_jax.denoisers.thresholds import clipped as clipped
from pdm_jax.denoisers.tiled import tiled as tiled
