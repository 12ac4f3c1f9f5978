"""Sizes of images on the command line."""

from __future__ import annotations

import argparse


def image_size(text: str) -> int | tuple[int, int]:
    """The type of a `--size` flag: `256` is of squares, `512x1024` is height and width."""
    try:
        numbers = tuple(int(word) for word in text.lower().split("x"))
    except ValueError:
        numbers = ()
    if len(numbers) not in (1, 2) or min(numbers) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no size; expected pixels such as 256, or HEIGHTxWIDTH")
    return numbers[0] if len(numbers) == 1 else numbers
