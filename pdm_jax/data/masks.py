"""Random holes as LaMa draws them (arXiv 2109.07161), by which LDM trains and judges inpainting.

A mask is either of bent strokes or of boxes. Lengths are LaMa's on 256 pixels and grow with the shorter side.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from PIL import Image, ImageDraw

from pdm_jax.errors import UserError

_TRIALS = 1000  # of masks whose share is not the wanted one


@dataclasses.dataclass(frozen=True)
class MaskSettings:
    """What is drawn; ranges have both their ends, lengths are in pixels of 256."""

    strokes: tuple[int, int]  # how many
    widths: tuple[int, int]
    lengths: tuple[int, int]  # of a stroke's straight parts
    box_chance: float = 0.0  # that a mask is of boxes
    boxes: tuple[int, int] = (1, 1)  # how many
    sides: tuple[int, int] = (1, 1)  # of boxes
    margin: int = 0  # between boxes and the border
    most: float = 0.5  # larger shares of the image are drawn anew


# LaMa's test masks, with the counts and widths that its program really comes to, and those it trains with.
SETTINGS = {
    "thin": MaskSettings((4, 51), (5, 14), (10, 49)),
    "medium": MaskSettings((4, 6), (5, 54), (10, 109), 0.3 / 1.3, (1, 5), (10, 50)),
    "thick": MaskSettings((1, 6), (5, 104), (10, 209), 0.3 / 1.3, (1, 3), (30, 150), 10),
    "mixed": MaskSettings((1, 6), (5, 104), (10, 209), 0.5, (1, 4), (30, 150), 10, most=1.0),
}


def draw_mask(
    size: tuple[int, int], rng: np.random.Generator, kind: str, share: tuple[float, float] | None = None
) -> np.ndarray:
    """Where an image is to be filled in.

    Args:
      size: (height, width) in pixels.
      rng: decides all of it.
      kind: "thin", "medium", "thick" (LaMa's test masks, at most half of the image) or "mixed" (its training masks).
      share: the least and the largest part of the image, in place of the kind's own limits; LDM's table 7 has a
        column for (0.4, 0.5).

    Returns:
      (height, width, 1) uint8: 1 where to fill, 0 where the image is known; neither is everywhere.

    Raises:
      UserError: there is no such kind, or masks of it hardly ever have this share.
    """
    if kind not in SETTINGS:
        raise UserError(f"there are no masks {kind!r}; choose {', '.join(SETTINGS)}")
    settings = SETTINGS[kind]
    least, most = share or (0.0, settings.most)
    for _ in range(_TRIALS):
        mask = _draw(size, settings, rng)
        if least <= mask.mean() <= most and 0 < mask.mean() < 1:
            return mask[..., None]
    raise UserError(
        f"{_TRIALS} masks {kind!r} of {size[0]}x{size[1]} pixels, and none covers {least:g} to {most:g} of the image; "
        "choose another kind or a wider range"
    )


def _draw(size: tuple[int, int], settings: MaskSettings, rng: np.random.Generator) -> np.ndarray:
    height, width = size
    canvas = Image.new("L", (width, height))
    draw, unit = ImageDraw.Draw(canvas), min(size) / 256
    if rng.random() < settings.box_chance:
        for _ in range(_between(settings.boxes, rng)):
            _draw_box(draw, size, settings, unit, rng)
    else:
        for i in range(_between(settings.strokes, rng)):
            _draw_stroke(draw, size, settings, unit, i % 2 == 0, rng)
    return np.asarray(canvas)


def _draw_stroke(
    draw: ImageDraw.ImageDraw,
    size: tuple[int, int],
    settings: MaskSettings,
    unit: float,
    mirrored: bool,
    rng: np.random.Generator,
) -> None:
    """One to five straight parts with round ends, each in one of four directions: 0.01, 1.01, 2.01 or 3.01 radians."""
    corner = np.array(size[::-1])
    start = rng.integers(corner)
    for _ in range(_between((1, 5), rng)):
        angle = (0.01 + rng.integers(4)) * (-1 if mirrored else 1)
        length, width = (unit * _between(limits, rng) for limits in (settings.lengths, settings.widths))
        stop = np.clip(start + length * np.array([np.sin(angle), np.cos(angle)]), 0, corner)
        draw.line([*start, *stop], fill=1, width=max(1, round(width)))
        for end in (start, stop):
            draw.ellipse([*(end - width / 2), *(end + width / 2)], fill=1)
        start = stop


def _draw_box(
    draw: ImageDraw.ImageDraw, size: tuple[int, int], settings: MaskSettings, unit: float, rng: np.random.Generator
) -> None:
    first, last = [], []
    for whole in size[::-1]:
        free = whole - 2 * round(unit * settings.margin)
        side = max(1, min(round(unit * _between(settings.sides, rng)), free))
        first.append((whole - free) // 2 + _between((0, max(0, free - side)), rng))
        last.append(first[-1] + side - 1)
    draw.rectangle([*first, *last], fill=1)


def _between(limits: tuple[int, int], rng: np.random.Generator) -> int:
    return int(rng.integers(*limits, endpoint=True))
