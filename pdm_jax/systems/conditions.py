"""What a latent diffusion model is told of an image (LDM section 3.3), from what batches and users give to a `Cond`."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from pdm_jax import rng
from pdm_jax.config import Config
from pdm_jax.data.tasks import TaskInputs
from pdm_jax.errors import UserError
from pdm_jax.networks import ClassEmbedder, SpatialRescaler, TokenEncoder, define
from pdm_jax.networks.functional import Definition
from pdm_jax.ops.images import to_float
from pdm_jax.ops.inpainting import beside, hide
from pdm_jax.systems.base import Told, check_arguments
from pdm_jax.systems.diffusion_loss import dropped_labels
from pdm_jax.systems.space import Space
from pdm_jax.types import Array, Cond, Params

NULL_TOKENS = "null_tokens"  # frozen group: the tokens of the empty caption
READ = ("class", "text", "layout")  # kinds whose tokens are attended to
JOINED = ("semantic", "superres", "inpaint")  # kinds that lie beside z_t
_OBJECT_TOKENS, _CROP_TOKENS = 3, 2  # of a layout: of each object, and of the window on the image
_TOKENS = {"text": "tokens", "layout": "layout"}  # what a batch calls them
# The networks that read conditions, and their settings that follow from the config's others.
_NETWORKS = {
    "class": (ClassEmbedder, {"num_classes", "rngs"}),
    "text": (TokenEncoder, {"dtype", "rngs"}),
    "layout": (TokenEncoder, {"dtype", "rngs"}),
    "semantic": (SpatialRescaler, {"rngs"}),
}


@dataclasses.dataclass(frozen=True)
class Conditions:
    """How what is given of each image (`inputs` in training, `told` in sampling) becomes a `Cond`, and how it is null.

    Networks that read it are in `params["network"]` under the names of their kinds.
    """

    config: Config
    space: Space
    definitions: Mapping[str, Definition]

    @property
    def kinds(self) -> tuple[str, ...]:
        """As in `config.condition.kinds`."""
        return tuple(self.config.condition.kinds)

    @property
    def read(self) -> str | None:
        """The kind that is attended to, if there is one."""
        return next((kind for kind in self.kinds if kind in READ), None)

    @property
    def inputs(self) -> dict[str, jax.ShapeDtypeStruct]:
        """What a batch holds of each sample besides its image."""
        height, width, colours = self.space.picture
        factor, length = self.config.condition.factor, self._length
        each = {
            "class": ("label", (), jnp.int32),
            "text": ("tokens", (length,), jnp.int32),
            "layout": ("layout", (length,), jnp.int32),
            "semantic": ("map", (height, width), jnp.uint8),
            "superres": ("low", (height // factor, width // factor, colours), jnp.uint8),
            "inpaint": ("mask", (height, width, 1), jnp.uint8),
        }
        kinds = [*self.kinds, *(["class"] if self.config.model.num_classes else [])]
        return {name: jax.ShapeDtypeStruct(shape, dtype) for name, shape, dtype in map(each.get, kinds)}

    @property
    def told(self) -> dict[str, jax.ShapeDtypeStruct]:
        """What sampling is told of each image: with a mask, also the image around the hole."""
        image = {"image": jax.ShapeDtypeStruct(self.space.picture, jnp.uint8)} if "inpaint" in self.kinds else {}
        return self.inputs | image

    @property
    def frozen(self) -> dict[str, jax.ShapeDtypeStruct]:
        """Shapes of the frozen groups that it needs in `params`."""
        return {NULL_TOKENS: jax.ShapeDtypeStruct((self._length,), jnp.int32)} if "text" in self.kinds else {}

    @property
    def dropouts(self) -> tuple[str, ...]:
        """The settings of `config.loss` that drop what can be dropped."""
        labels = ("label_dropout",) if self.config.model.num_classes else ()
        return labels + (("context_dropout",) if self.read in _TOKENS else ())

    @property
    def concat_channels(self) -> int:
        """Of what lies beside z_t."""
        given = jax.ShapeDtypeStruct((1, *self.space.picture), jnp.uint8)
        told = {name: jax.ShapeDtypeStruct((1, *x.shape), x.dtype) for name, x in self.inputs.items()}
        params = {"network": {kind: each.shapes for kind, each in self.definitions.items()}, **self.space.frozen}
        joined = jax.eval_shape(self._concat, params, {"image": given, **told})
        return 0 if joined is None else joined.shape[-1]

    @property
    def context_dim(self) -> int | None:
        """Of the tokens that are attended to."""
        if self.read is None:
            return None
        name, x = next((name, x) for name, x in self.inputs.items() if name in ("label", *_TOKENS.values()))
        told = {name: jax.ShapeDtypeStruct((1, *x.shape), x.dtype)}
        params = {"network": {self.read: self.definitions[self.read].shapes}}
        return jax.eval_shape(self._context, params, told).shape[-1]

    def cond(self, params: Params, given: Told) -> Cond:
        """What is given of images as the network takes it."""
        embedded = self.config.model.num_classes > 0 and self.read != "class"  # by the U-Net itself
        return Cond(
            label=given["label"] if embedded else None,
            context=self._context(params, given),
            concat=self._concat(params, given),
        )

    def dropped(self, params: Params, batch: Mapping[str, Array], keys: Array) -> Cond:
        """The condition of a batch, with labels, captions and layouts of some samples replaced by the null ones."""
        given = dict(batch)
        if self.config.model.num_classes:
            given["label"] = dropped_labels(batch, keys, self.config)
        if name := _TOKENS.get(self.read):
            gone = rng.bernoulli_each(rng.stream_each(keys, "drop context"), self.config.loss.context_dropout)
            given[name] = jnp.where(gone[:, None], self._null_tokens(params)[None], batch[name])
        return self.cond(params, given)

    def null(self, params: Params, cond: Cond) -> Cond:
        """The condition with the null label, caption or layout; what lies beside z_t stays."""
        label, context = cond.label, cond.context
        if label is not None:
            label = jnp.full_like(label, self.config.model.num_classes)
        if self.read is not None:
            nothing = {"label": jnp.full((1,), self.config.model.num_classes, jnp.int32)}
            if name := _TOKENS.get(self.read):
                nothing = {name: self._null_tokens(params)[None]}
            context = jnp.broadcast_to(self._context(params, nothing), context.shape)
        return dataclasses.replace(cond, label=label, context=context)

    def _context(self, params: Params, given: Told) -> Array | None:
        if self.read is None:
            return None
        network = self.definitions[self.read].bind(params["network"][self.read])
        return network(given[_TOKENS.get(self.read, "label")])

    def _concat(self, params: Params, given: Told) -> Array | None:
        """Everything that lies beside z_t, (B, h, w, C'), in the order of the kinds."""
        parts = []
        for kind in self.kinds:
            if kind == "semantic":
                parts.append(self.definitions[kind].bind(params["network"][kind])(given["map"]))
            elif kind == "superres":
                parts.append(to_float(given["low"]))
            elif kind == "inpaint":
                parts.append(self._around_hole(params, given))
        return jnp.concatenate(parts, axis=-1) if parts else None

    def _around_hole(self, params: Params, given: Told) -> Array:
        """The latents of the image around its hole, not scaled, and the mask in {-1, 1} at their size."""
        mask = given["mask"].astype(jnp.float32)
        return beside(self.space.encode(params, hide(to_float(given["image"]), mask)), mask)

    def _null_tokens(self, params: Params) -> Array:
        """The empty caption, or a layout of padding alone, the last token."""
        if self.read == "text":
            return params[NULL_TOKENS]
        return jnp.full((self._length,), self._settings["vocab_size"] - 1, jnp.int32)

    @property
    def _settings(self) -> Mapping[str, int]:
        return self.config.condition.networks[self.read]

    @property
    def _length(self) -> int:
        """Tokens of a caption or layout; 0 where there is none."""
        return self._settings["max_length"] if self.read in _TOKENS else 0


def task_inputs(config: Config) -> TaskInputs:
    """What the data of a config must hold beside images."""
    condition = config.condition
    settings = {name: dict(own) for name, own in (condition.networks or {}).items()}
    text, layout = settings.get("text", {}), settings.get("layout", {})
    wanted: dict[str, Any] = {
        "vocab_size": text.get("vocab_size"),
        "max_length": text.get("max_length"),
        "layout_tokens": layout.get("vocab_size"),
        "max_objects": (layout["max_length"] - _CROP_TOKENS) // _OBJECT_TOKENS if "max_length" in layout else None,
    }
    return TaskInputs(
        tuple(condition.kinds),
        tokenizer=condition.tokenizer,
        object_classes=condition.object_classes,
        factor=condition.factor,
        degradation=condition.degradation,
        mask=condition.mask,
        **{name: value for name, value in wanted.items() if value is not None},
    )


def make_conditions(config: Config, space: Space) -> Conditions:
    """The conditions of a config.

    Raises:
      UserError: kinds that do not exist or do not fit each other, the space or their networks' settings.
    """
    condition, model = config.condition, config.model
    kinds, networks = tuple(condition.kinds), dict(condition.networks or {})
    if unknown := [kind for kind in kinds if kind not in READ + JOINED]:
        raise UserError(f"config.condition.kinds has {unknown[0]!r}; expected some of {', '.join(READ + JOINED)}")
    if len(set(kinds)) < len(kinds) or sum(kind in READ for kind in kinds) > 1:
        raise UserError(
            f"config.condition.kinds is {list(kinds)}; expected each once, and at most one of {', '.join(READ)}"
        )
    if unread := [kind for kind in networks if kind not in kinds or kind not in _NETWORKS]:
        raise UserError(
            f"config.condition.networks has {unread[0]!r}, which nothing uses; leave it out, or add it to the kinds"
        )
    if ("class" in kinds) and not model.num_classes:
        raise UserError("config.condition.kinds has 'class' and config.model.num_classes is 0; set their number")
    _check_space(config, space, kinds, networks)
    _check_null(config, kinds, networks)
    definitions = {kind: _define(config, kind, networks.get(kind, {})) for kind in kinds if kind in _NETWORKS}
    return Conditions(config, space, definitions)


def _define(config: Config, kind: str, settings: Mapping) -> Definition:
    network, given = _NETWORKS[kind]
    settings = check_arguments(network, settings, given, f"config.condition.networks.{kind}")
    own = {}
    if kind == "class":
        own["num_classes"] = config.model.num_classes
    elif kind in _TOKENS:
        own["dtype"] = jnp.dtype(config.model.dtype)
    return define(lambda rngs: network(rngs=rngs, **own, **settings))


def _check_null(config: Config, kinds: tuple[str, ...], networks: Mapping[str, Mapping]) -> None:
    """There is a null label where labels are dropped, and a layout is of whole objects."""
    embeds = networks.get("class", {}) if "class" in kinds else config.model.network
    if config.loss.label_dropout and config.model.num_classes and embeds.get("has_null") is False:
        raise UserError(
            "config.loss.label_dropout needs a null label, which has_null=False leaves out; set one of them"
        )
    length = networks.get("layout", {}).get("max_length")
    if length is not None and (length < _CROP_TOKENS + _OBJECT_TOKENS or (length - _CROP_TOKENS) % _OBJECT_TOKENS):
        objects = max(1, (length - _CROP_TOKENS) // _OBJECT_TOKENS)
        raise UserError(
            f"config.condition.networks.layout.max_length is {length}; expected 3 tokens an object and 2 more, such as "
            f"{objects * _OBJECT_TOKENS + _CROP_TOKENS}"
        )


def _check_space(config: Config, space: Space, kinds: tuple[str, ...], networks: Mapping[str, Mapping]) -> None:
    """What lies beside z_t is of its size, and can be made of what the data holds."""
    factor = config.condition.factor
    halvings = networks.get("semantic", {}).get("num_halvings")
    if halvings is not None and 2**halvings != space.factor:
        raise UserError(
            f"config.condition.networks.semantic.num_halvings is {halvings} and latents are {space.factor} times "
            f"smaller than images; the map lies beside them, so set it to {space.factor.bit_length() - 1}"
        )
    if "superres" in kinds and factor != space.factor:
        raise UserError(
            f"config.condition.factor is {factor} and latents are {space.factor} times smaller than images; the small "
            f"image lies beside them, so set it to {space.factor}"
        )
    if "image" not in space.inputs and "inpaint" in kinds:
        raise UserError("the kind 'inpaint' encodes images with holes, which data of latents lack; train on images")
