"""What a run needs of its data beside images: captions as tokens, layouts, class maps, small copies, holes."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from pdm_jax.data.layouts import LayoutCodec
from pdm_jax.errors import UserError

KINDS = ("class", "text", "layout", "semantic", "superres", "inpaint")
TYPES = {"tokens": "int32", "layout": "int32", "map": "uint8", "low": "uint8", "mask": "uint8"}  # in batches
_FIELDS = {"text": "captions", "layout": "layout", "semantic": "map"}
_PIXELS = ("superres", "inpaint")  # made of the image itself, so that latents alone do not do


@dataclasses.dataclass(frozen=True)
class TaskInputs:
    """The kinds of conditioning of a run, and how batches hold what they are told.

    | kind     | in a batch | shape, type            | what                                          |
    |----------|------------|------------------------|-----------------------------------------------|
    | class    | `label`    | (b,) int32             | the class                                     |
    | text     | `tokens`   | (b, max_length) int32  | a caption; one of several at random           |
    | layout   | `layout`   | (b, 3 max_objects + 2) int32 | which objects lie where (`layouts`)     |
    | semantic | `map`      | (b, H, W) uint8        | the class of each pixel                       |
    | superres | `low`      | (b, H/f, W/f, C) uint8 | the image, degraded and f = `factor` smaller  |
    | inpaint  | `mask`     | (b, H, W, 1) uint8     | 1 where the image is to be filled in          |
    """

    kinds: tuple[str, ...] = ()
    tokenizer: str | None = None  # text: a tokenizer.json
    vocab_size: int | None = None  # text: that the network has; None takes any
    max_length: int = 77  # text: tokens of a caption, padded or cut
    object_classes: int | None = None  # layout: None takes as many as the source has names of
    max_objects: int = 30  # layout
    layout_tokens: int = 8192  # layout: the vocabulary
    crop_tokens: bool = True  # layout: two more tokens tell the window on the image
    factor: int = 4  # superres
    degradation: str = "bicubic"  # superres: bicubic | bsr | bsr_full
    mask: str = "mixed"  # inpaint: thin | medium | thick | mixed

    def __post_init__(self):
        """Raises a `UserError` for a kind that does not exist, or text without a tokeniser."""
        for kind in self.kinds:
            if kind not in KINDS:
                raise UserError(f"config.condition.kinds has {kind!r}; expected some of {', '.join(KINDS)}")
        if "text" in self.kinds and self.tokenizer is None:
            raise UserError("captions need a tokeniser; give its tokenizer.json, or train one on them")

    @property
    def fields(self) -> tuple[str, ...]:
        """What of `pdm_jax.data.record.FIELDS` each record must have."""
        return tuple(field for kind, field in _FIELDS.items() if kind in self.kinds)

    def layout_codec(self, names: Sequence[str]) -> LayoutCodec:
        """How layouts become tokens; `names` are those of the classes of objects, where they have names.

        Raises:
          UserError: the number of classes is not known.
        """
        if not (self.object_classes or names):
            raise UserError(
                "how many classes of objects there are is not known; list their names in classes.txt in the folder of "
                "the images, one a line"
            )
        return LayoutCodec(self.object_classes or len(names), self.max_objects, self.layout_tokens, self.crop_tokens)

    @property
    def is_random(self) -> bool:
        """Whether what a record tells differs from epoch to epoch, however it is cropped."""
        return bool({"text", "layout", "superres", "inpaint"} & set(self.kinds))

    @property
    def of_pixels(self) -> tuple[str, ...]:
        """The kinds that are made of the image itself."""
        return tuple(kind for kind in self.kinds if kind in _PIXELS)
