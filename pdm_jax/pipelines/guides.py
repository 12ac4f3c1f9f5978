"""What steers sampling by gradients: a classifier of noisy images, or a picture that images are to be like."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from pdm_jax.denoisers.steered import Compare, classifier_guided, image_guided, to_image
from pdm_jax.errors import UserError
from pdm_jax.networks.functional import Definition
from pdm_jax.ops.images import to_float
from pdm_jax.pipelines.encode import fingerprint
from pdm_jax.pipelines.restore import Model
from pdm_jax.systems import System, Told
from pdm_jax.systems.classifier import make_log_prob
from pdm_jax.types import Array, Cond, Denoiser, Params

WANTED = "wanted"  # told of each image besides what the model takes: the class that a classifier is to see in it
BY = ("l2", "lowres", "lpips")
_CLASSIFIER, _PICTURE = "classifier", "picture"  # groups of parameters


@dataclasses.dataclass(frozen=True)
class Guide:
    """A wrapper around a model's denoiser, and what it takes besides what the model does."""

    steer: Callable[[Denoiser, Params, Told], Denoiser]  # the outermost wrapper; call it while tracing
    params: Params  # groups of its own, beside the model's
    told: Mapping[str, jax.ShapeDtypeStruct]  # of each image
    about: Mapping[str, Any]  # what images depend on because of it, as plain JSON


def classifier_guide(system: System, classifier: Model, scale: float) -> Guide:
    """Towards the classes `told[WANTED]`, as a classifier of noisy images sees them (Dhariwal & Nichol, algorithm 2).

    Raises:
      UserError: the classifier is of another space or process than the system.
    """
    _check_classifier(system, classifier)
    own = {name: tree for name, tree in classifier.params.items() if name not in classifier.system.frozen}

    def steer(denoiser: Denoiser, params: Params, told: Told) -> Denoiser:
        log_prob = make_log_prob(classifier.config, params[_CLASSIFIER])
        wanted = Cond(label=told[WANTED])  # the condition may have none: it is of what the model is told
        return classifier_guided(denoiser, system.process, lambda z_t, t, cond: log_prob(z_t, t, wanted), scale)

    told = {WANTED: jax.ShapeDtypeStruct((), jnp.int32)}
    return Guide(steer, {_CLASSIFIER: own}, told, {"classifier": fingerprint(own), "scale": scale})


def check_first_stage(classifier: Model, model: Model) -> None:
    """Raises a `UserError` where a classifier reads latents of another first stage, or other multiples of them."""
    for name in classifier.system.frozen:
        if name not in model.params or fingerprint(classifier.params[name]) != fingerprint(model.params[name]):
            raise UserError(
                f"the classifier's latents have another {name.replace('_', ' ')} than this model's; train it with the "
                "model's own config.latent, first_stage and scale included"
            )


def picture_guide(
    system: System, picture: np.ndarray, by: str, scale: float, network: tuple[Definition, Params] | None = None
) -> Guide:
    """Towards images that are like a picture (LDM appendix C).

    Args:
      picture: (h, w, C) uint8; of the images' size, unless they are compared at its own.
      by: "l2", half the squared difference of pixels in [-1, 1], summed (eq. 17); "lowres", that of images which are
        made as small as the picture; "lpips", a perceptual distance.
      network: LPIPS and its parameters, of "lpips".
    """
    size = picture.shape[:2]

    def steer(denoiser: Denoiser, params: Params, told: Told) -> Denoiser:
        own = params[_PICTURE]

        def transform(x0: Array) -> Array:
            images = system.space.decode(params, x0)
            # Unlike `ops.resizing` it does not clip, so that all pixels have a gradient.
            return jax.image.resize(images, (len(images), *size, images.shape[-1]), "cubic")

        compare = None if network is None else _perceptual(network[0], own["network"])
        return image_guided(denoiser, system.process, to_image(own["target"], transform, compare), scale)

    own, about = {"target": to_float(jnp.asarray(picture)[None])}, {"by": by, "scale": scale}
    about |= {"picture": [*picture.shape, hashlib.sha256(picture.tobytes()).hexdigest()]}
    if network is not None:
        own, about = own | {"network": network[1]}, about | {"network": fingerprint(network[1])}
    return Guide(steer, {_PICTURE: own}, {}, about)


def _perceptual(definition: Definition, params: Params) -> Compare:
    def compare(a: Array, b: Array) -> Array:
        def colours(x: Array) -> Array:
            return jnp.broadcast_to(x, (*a.shape[:3], 3))

        return definition.bind(params)(colours(a), colours(b))

    return compare


def _check_classifier(system: System, classifier: Model) -> None:
    own = classifier.system
    if (own.space.factor, own.space.shape[2]) != (system.space.factor, system.space.shape[2]):
        raise UserError(
            f"the classifier reads {own.space.shape[2]} channels {own.space.factor} times smaller than images and this "
            f"model makes {system.space.shape[2]}, {system.space.factor} times smaller; train it on the model's latents"
        )
    if not np.array_equal(own.process.alpha_bar, system.process.alpha_bar):
        raise UserError("the classifier has another noise process than this model; train it with its config.diffusion")
