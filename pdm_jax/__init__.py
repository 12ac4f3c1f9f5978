"""Patch-based image diffusion in JAX: denoisers, the wrappers that change what they see, and their training."""

__version__ = "0.1.0"
