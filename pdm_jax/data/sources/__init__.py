"""Where images come from: `open_source("folder:/my/photos")` and its kin."""

from pdm_jax.data.sources.opening import open_source as open_source
