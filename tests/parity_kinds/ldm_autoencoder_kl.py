"""First stages of latent diffusion with a KL term (`AutoencoderKL`): moments, latents, images."""

from __future__ import annotations

import jax

from pdm_jax.diffusion.likelihood import normal_kl, sum_flat
from pdm_jax.networks.autoencoder import draw, split_moments
from pdm_jax.types import Array, Params
from tests.parity_kinds._case import Case
from tests.parity_kinds._ldm_first_stage import first_stage, to_nchw, to_nhwc

INPUTS = ("image", "eps", "clamp_moments")


def run(case: Case) -> dict[str, Array]:
    """All of the case's outputs, in its layout (NCHW)."""
    definition, params = first_stage(case)

    @jax.jit
    def forward(params: Params, io: dict[str, Array]) -> dict[str, Array]:
        network = definition.bind(params)
        encoded = network.encoder(io["image"])
        mean, log_variance = network.moments(io["image"])
        z = draw(mean, log_variance, io["eps"])
        return {
            "encoder_out": encoded,
            "moments": network.to_latent(encoded),
            "mean": mean,
            "logvar": log_variance,
            "z_sample": z,
            "kl_per_sample": sum_flat(normal_kl(mean, log_variance, 0 * mean, 0 * mean)),
            "decoded_mode": network.decode(mean),
            "decoded_sample": network.decode(z),
        }

    io = to_nhwc(case.io)
    found = forward(params, io)
    if "clamp_moments" in io:
        mean, log_variance = split_moments(io["clamp_moments"])
        found |= {"clamp_logvar": log_variance, "clamp_std": draw(0 * mean, log_variance, 0 * mean + 1)}
    return to_nchw(found)
