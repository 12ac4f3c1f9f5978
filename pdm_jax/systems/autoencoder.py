"""First stages of latent diffusion: an autoencoder, and the critic it is trained against (LDM 3.1, appendix G)."""

from __future__ import annotations

from collections.abc import Mapping

import jax.numpy as jnp
from flax import nnx

from pdm_jax import rng
from pdm_jax.config import Config
from pdm_jax.diffusion import make_process
from pdm_jax.diffusion.likelihood import normal_kl, sum_flat
from pdm_jax.errors import UserError
from pdm_jax.networks import Autoencoder, PatchCritic, define
from pdm_jax.networks.autoencoder import draw
from pdm_jax.networks.functional import Definition
from pdm_jax.networks.lpips import LEAST_SIZES, LPIPS
from pdm_jax.networks.quantizer import codebook_loss, codebook_use, straight_through
from pdm_jax.ops.adversarial import CRITIC_LOSSES
from pdm_jax.ops.images import to_float
from pdm_jax.systems.autoencoder_loss import Distance, Objective, Terms
from pdm_jax.systems.base import Loss, System
from pdm_jax.systems.latent import FIRST_STAGE, check_multiple, make_first_stage
from pdm_jax.systems.space import Space
from pdm_jax.types import Array, Cond, Params

CRITIC, PERCEPTUAL = "critic", "perceptual"  # groups beside FIRST_STAGE; the latter is frozen
_BACKBONE = "vgg"  # of LPIPS


def make_system(config: Config) -> System:
    """The system of a config: the autoencoder is trained first in each step, then the critic, each by its own loss.

    Raises:
      UserError: settings do not fit together, or images do not fit the networks.
    """
    _check(config)
    shape, wanted = (*config.data.size, config.data.channels), config.reconstruction
    if config.model.network:
        raise UserError("config.model.network is of diffusion; a first stage's settings go to config.latent.network")
    definition, factor, _ = make_first_stage(config.latent, shape[2])
    check_multiple(*shape[:2], factor)
    critic = define_critic(config, shape) if wanted.critic_weight else None
    perceptual = _define_perceptual(config, shape) if wanted.perceptual else None
    definitions = {FIRST_STAGE: definition} | ({CRITIC: critic} if critic else {})

    def reconstruct(params: Params, images: Array) -> Array:
        network = definition.bind(params[FIRST_STAGE])
        mean, _ = network.moments(to_float(images))
        return network.decode(mean)

    return System(
        init=lambda key: {name: each.init(rng.stream(key, name)) for name, each in definitions.items()},
        shapes={name: each.shapes for name, each in definitions.items()},
        losses=_make_losses(config, definition, critic, perceptual),
        denoiser=None,
        null=lambda params, cond: cond,
        has_null=False,
        guides="x0",
        dropouts=(),
        process=make_process(config.diffusion),
        space=Space(shape),
        num_classes=0,
        inputs=Space(shape).inputs,
        told={},
        cond=lambda params, told, shape: Cond(),
        frozen={PERCEPTUAL: perceptual.shapes} if perceptual else {},
        reconstruct=reconstruct,
    )


def _check(config: Config) -> None:
    """Raises a `UserError` for settings that a first stage does not read."""
    if config.data.source.startswith("latents:"):
        raise UserError(f"config.data.source is {config.data.source!r}; a first stage is trained on images")
    if config.latent.first_stage is not None:
        raise UserError(
            "config.latent.first_stage is of diffusion on its latents; an autoencoder has none: leave it out"
        )
    if config.model.dtype != "float32":
        raise UserError(f"config.model.dtype is {config.model.dtype!r}; that of a first stage is config.latent.dtype")


def define_critic(config: Config, shape: tuple[int, int, int]) -> Definition:
    """The critic of images (H, W, C); raises `UserError` for settings that it has not."""
    wanted = config.reconstruction
    if wanted.critic_loss not in CRITIC_LOSSES:
        names = " or ".join(map(repr, CRITIC_LOSSES))
        raise UserError(f"config.reconstruction.critic_loss is {wanted.critic_loss!r}; expected {names}")
    definition = define(
        lambda rngs: PatchCritic(
            channels=shape[2], width=wanted.critic_width, num_layers=wanted.critic_layers, rngs=rngs
        )
    )
    definition.bind(definition.shapes).check_size(shape[:2])
    return definition


def _define_perceptual(config: Config, shape: tuple[int, int, int]) -> Definition:
    if min(shape[:2]) < LEAST_SIZES[_BACKBONE]:
        raise UserError(
            f"LPIPS needs images of {LEAST_SIZES[_BACKBONE]} pixels a side, config.data.image_size is {shape[:2]}; "
            "leave out config.reconstruction.perceptual"
        )
    return define(lambda rngs: LPIPS(_BACKBONE, dtype=jnp.dtype(config.latent.dtype), rngs=rngs))


def _make_losses(
    config: Config, definition: Definition, critic: Definition | None, perceptual: Definition | None
) -> dict[str, Loss]:
    kind = config.latent.kind

    def objective(params: Params) -> Objective:
        distance = None if perceptual is None else _of_colours(perceptual.bind(params[PERCEPTUAL]))
        return Objective(kind, config.reconstruction, distance)

    def of_autoencoder(params: Params, batch: Mapping[str, Array], keys: Array, step: Array) -> tuple[Array, Terms]:
        images, network = to_float(batch["image"]), definition.bind(params[FIRST_STAGE])
        z, penalty, terms = _latents(network, images, rng.stream_each(keys, "posterior"), config.reconstruction.beta)
        loss, found = objective(params).of_autoencoder(
            images,
            lambda kernel, features: _last(definition, params[FIRST_STAGE], kernel)(features),
            params[FIRST_STAGE]["decoder"]["conv_out"]["kernel"],
            network.decoder_features(z),
            penalty,
            None if critic is None else critic.bind(params[CRITIC]),
            step,
        )
        return loss, found | terms

    def of_critic(params: Params, batch: Mapping[str, Array], keys: Array, step: Array) -> tuple[Array, Terms]:
        images, network = to_float(batch["image"]), definition.bind(params[FIRST_STAGE])
        mean, log_variance = network.moments(images)
        noise = rng.normal_each(rng.stream_each(keys, "critic_posterior"), mean.shape[1:])
        found = network.decode(draw(mean, log_variance, noise))
        return objective(params).of_critic(critic.bind(params[CRITIC]), images, found, step)

    return {FIRST_STAGE: of_autoencoder} | ({CRITIC: of_critic} if critic else {})


def _last(definition: Definition, params: Params, kernel: Array) -> nnx.Module:
    """The decoder's last convolution with this kernel."""
    conv = params["decoder"]["conv_out"] | {"kernel": kernel}
    return definition.bind(params | {"decoder": params["decoder"] | {"conv_out": conv}}).decoder.conv_out


def _of_colours(distance: Distance) -> Distance:
    """The distance of images with 1 or 3 channels, where it is one of images with 3."""
    return lambda *images: distance(*(jnp.repeat(x, 3 // x.shape[-1], axis=-1) for x in images))


def _latents(network: Autoencoder, images: Array, keys: Array, beta: float) -> tuple[Array, Array, Terms]:
    """What the decoder takes of images, the penalty [B] for it, and what else is worth logging."""
    mean, log_variance = network.moments(images)
    if network.codebook is None:
        z = draw(mean, log_variance, rng.normal_each(keys, mean.shape[1:]))
        zero = jnp.float32(0)
        return z, sum_flat(normal_kl(mean, log_variance, zero, zero)), {}
    indices = network.codebook.nearest(mean)
    codes = network.codebook.lookup(indices)
    use, perplexity = codebook_use(indices, len(network.codebook.embedding[...]))
    terms = {"codes_used": use, "perplexity": perplexity}
    terms = {name: jnp.broadcast_to(x, len(images)) for name, x in terms.items()}
    return straight_through(mean, codes), codebook_loss(mean, codes, codebook=beta), terms
