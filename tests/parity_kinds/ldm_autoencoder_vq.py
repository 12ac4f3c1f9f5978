"""First stages of latent diffusion with a codebook (`VQModelInterface`): latents, codes, images."""

from __future__ import annotations

import jax

from pdm_jax.networks.quantizer import codebook_loss
from pdm_jax.types import Array, Params
from tests.parity_kinds._case import Case
from tests.parity_kinds._ldm_first_stage import first_stage, to_nchw, to_nhwc

INPUTS = ("image",)


def run(case: Case) -> dict[str, Array]:
    """All of the case's outputs, in its layout (NCHW)."""
    definition, params = first_stage(case)

    @jax.jit
    def forward(params: Params, image: Array) -> dict[str, Array]:
        network = definition.bind(params)
        z, _ = network.moments(image)
        indices = network.codebook.nearest(z)
        codes = network.codebook.lookup(indices)
        return {
            "encoder_out": network.encoder(image),
            "prequant": z,
            "indices": indices,
            "quant": network.quantize(z),
            "emb_loss": codebook_loss(z, codes).mean(keepdims=True),
            "decoded": network.decode(z),
            "decoded_not_quantized": network.decode(z, lookup=False),
            "decoded_from_indices": network.decode(codes, lookup=False),
        }

    return to_nchw(forward(params, to_nhwc(case.io)["image"]))
