"""What CLIP reads: texts as tokens and images as normalised pixels, by the settings of its Hugging Face folder.

Images go the way of transformers' `CLIPImageProcessorPil` (5.23), texts that of its `CLIPTokenizer` with
`padding="max_length", truncation=True`.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from pdm_jax.errors import UserError
from pdm_jax.interop.hugging_face import read_json

_PAD = "<|endoftext|>"  # where the settings name none
_BICUBIC = 3  # Pillow's number
_STEPS = ("do_resize", "do_center_crop", "do_rescale", "do_normalize")


@dataclasses.dataclass(frozen=True)
class ImageSettings:
    """How images are prepared."""

    shortest_edge: int
    crop_size: int
    mean: tuple[float, ...]  # of each channel, for values in [0, 1]
    std: tuple[float, ...]


def open_tokenizer(folder: str | os.PathLike, length: int) -> Callable[[Sequence[str]], np.ndarray]:
    """A function from B texts to tokens [B, length] int32, cut and padded behind the end token.

    Raises:
      UserError: `tokenizer.json` is missing or damaged, or lacks the padding token that the settings name.
    """
    from tokenizers import Tokenizer

    path = Path(folder) / "tokenizer.json"
    read_json(path)
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises bare exceptions
        raise UserError(f"{path} is no tokenizer ({error}); download it again") from None
    pad = _pad_token(Path(folder))
    if tokenizer.token_to_id(pad) is None:
        raise UserError(f"{path} has no token {pad!r}, which texts are padded with; download the folder again")
    tokenizer.enable_truncation(length)
    tokenizer.enable_padding(pad_id=tokenizer.token_to_id(pad), pad_token=pad, length=length)
    return lambda texts: np.array([found.ids for found in tokenizer.encode_batch(list(texts))], np.int32)


def open_image_settings(folder: str | os.PathLike) -> ImageSettings:
    """The settings in a folder's `preprocessor_config.json`.

    Raises:
      UserError: the file is missing, or asks for a way of preparing images that is not CLIP's.
    """
    path = Path(folder) / "preprocessor_config.json"
    config = read_json(path)
    left_out = [step for step in _STEPS if not config.get(step, True)]
    if left_out or config.get("resample", _BICUBIC) != _BICUBIC:
        unusual = f"no {', '.join(left_out)}" if left_out else "a filter other than bicubic"
        raise UserError(f"{path} asks for {unusual}; expected CLIP's way: bicubic resize, crop, rescale, normalise")
    try:
        sides = _side(config["size"], "shortest_edge"), _side(config["crop_size"], "height")
        mean, std = (tuple(map(float, config[name])) for name in ("image_mean", "image_std"))
    except (KeyError, TypeError, ValueError):
        raise UserError(f"{path} lacks a usable size, crop_size, image_mean or image_std; download it again") from None
    if sides[0] < sides[1]:
        raise UserError(f"{path} crops {sides[1]} pixels out of {sides[0]}; download it again")
    return ImageSettings(*sides, mean, std)


def prepare(images: np.ndarray, settings: ImageSettings) -> np.ndarray:
    """Resizes the shorter side by Pillow's antialiased bicubic filter, crops the centre, normalises.

    Args:
      images: uint8 (B, H, W, C), C 1 or 3.
      settings: as the network was trained.

    Returns:
      (B, crop_size, crop_size, 3) float32.
    """
    from PIL import Image

    short, crop = settings.shortest_edge, settings.crop_size
    height, width = (int(short * side / min(images.shape[1:3])) for side in images.shape[1:3])
    row, col = (height - crop) // 2, (width - crop) // 2
    window = (col, row, col + crop, row + crop)

    def cropped(image: np.ndarray) -> np.ndarray:
        pixels = Image.fromarray(np.broadcast_to(image, (*image.shape[:2], 3)))
        return np.asarray(pixels.resize((width, height), Image.Resampling.BICUBIC).crop(window))

    pixels = np.stack([cropped(image) for image in images]).astype(np.float32) / np.float32(255)
    return (pixels - np.float32(settings.mean)) / np.float32(settings.std)


def _side(size: Mapping[str, int] | int, name: str) -> int:
    """A side in pixels: newer files name it, older ones give the number alone."""
    return int(size[name] if isinstance(size, Mapping) else size)


def _pad_token(folder: Path) -> str:
    """The padding token that `tokenizer_config.json` names, as a text or as an object with its content."""
    if not (folder / "tokenizer_config.json").is_file():
        return _PAD
    pad = read_json(folder / "tokenizer_config.json").get("pad_token") or _PAD
    return pad["content"] if isinstance(pad, Mapping) else pad
