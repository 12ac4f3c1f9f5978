"""What a first stage is trained for (LDM appendix G): to reconstruct, to look real, and to keep little.

The terms are those of latent-diffusion's program: sums over an image in models of kind "kl", means in those of "vq".
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp

from pdm_jax.config import ReconstructionConfig
from pdm_jax.ops.adversarial import CRITIC_LOSSES, adaptive_weight
from pdm_jax.types import Array

Terms = dict[str, Array]  # what is logged of each sample, [B]
Critic = Callable[[Array], Array]  # images (B, H, W, C) -> logits (B, h, w, 1)
Distance = Callable[[Array, Array], Array]  # two batches of images -> perceptual distances [B]
ToImage = Callable[[Array, Array], Array]  # (the last convolution's kernel, its input) -> images


@dataclasses.dataclass(frozen=True)
class Objective:
    """The losses of one kind of first stage; images are (B, H, W, C) in [-1, 1]."""

    kind: str  # kl | vq
    config: ReconstructionConfig
    distance: Distance | None = None  # None leaves the perceptual term out
    log_variance: float = 0.0  # of pixels in "kl": a parameter of the program, which no optimiser of its is given

    def reconstruction(self, images: Array, found: Array) -> tuple[Array, Terms]:
        """The negative log likelihood of images under their reconstructions, [B], and its parts as means of pixels."""
        error = jnp.abs(images - found)
        terms = {"reconstruction": error.mean((1, 2, 3))}
        if self.distance is not None:
            distance = self.distance(images, found)
            error += self.config.perceptual_weight * distance[:, None, None, None]
            terms["perceptual"] = distance
        if self.kind == "vq":
            return error.mean((1, 2, 3)), terms
        return (error / jnp.exp(self.log_variance) + self.log_variance).sum((1, 2, 3)), terms

    def of_autoencoder(
        self,
        images: Array,
        to_image: ToImage,
        kernel: Array,
        features: Array,
        penalty: Array,
        critic: Critic | None,
        step: Array,
    ) -> tuple[Array, Terms]:
        """The autoencoder's loss [B] with terms to log.

        Args:
          images: what is to be reconstructed.
          to_image: the last convolution, `kernel` its kernel and `features` its input: reconstructions.
          penalty: [B], of each sample's latents: their KL divergence, summed, or their codebook loss.
          critic: with parameters that do not change here; None trains without one.
          step: int32 scalar, batches that were trained on before this one.
        """
        found = to_image(kernel, features)
        gradient, (likelihood, terms) = _gradient(lambda x: self.reconstruction(images, x), found)
        weight = {"kl": self.config.kl_weight, "vq": self.config.codebook_weight}[self.kind]
        loss = likelihood + weight * penalty
        terms |= {"nll": likelihood, {"kl": "kl", "vq": "codebook"}[self.kind]: penalty}
        if critic is not None:
            towards_real, (generator, _) = _gradient(lambda x: (-critic(x).mean((1, 2, 3)), {}), found)
            kernel, features = jax.lax.stop_gradient((kernel, features))
            _, to_kernel = jax.vjp(lambda kernel: to_image(kernel, features), kernel)
            factor = self.config.critic_weight * adaptive_weight(*to_kernel(gradient), *to_kernel(towards_real))
            terms |= {"generator": generator, "adaptive_weight": jnp.broadcast_to(factor, generator.shape)}
            factor *= self._is_critical(step)
            loss += factor * generator
            gradient += factor * towards_real
        return loss + _carrying(gradient, found), terms

    def of_critic(self, critic: Critic, images: Array, found: Array, step: Array) -> tuple[Array, Terms]:
        """The critic's loss [B] of images and their reconstructions with terms to log; 0 before it counts."""
        real, fake = critic(images), critic(found)
        loss = self._is_critical(step) * 0.5 * sum(CRITIC_LOSSES[self.config.critic_loss](real, fake))
        return loss, {"logits_real": real.mean((1, 2, 3)), "logits_fake": fake.mean((1, 2, 3))}

    def _is_critical(self, step: Array) -> Array:
        return (step >= self.config.critic_start).astype(jnp.float32)


def _gradient(loss: Callable[[Array], tuple[Array, Terms]], found: Array) -> tuple[Array, tuple[Array, Terms]]:
    """The gradient of a mean loss for images, and what `loss` gives; of none of it can one be taken again."""

    def mean(found: Array) -> tuple[Array, tuple[Array, Terms]]:
        values, terms = loss(found)
        return values.mean(), (values, terms)

    return jax.grad(mean, has_aux=True)(jax.lax.stop_gradient(found))


def _carrying(gradient: Array, found: Array) -> Array:
    """Zeros [B], the mean of which has this gradient for images: it was computed before and is handed on as it is."""
    return len(found) * jnp.sum(gradient * (found - jax.lax.stop_gradient(found)), axis=(1, 2, 3))
