"""What the commands share that go on from a picture: what is known of it is kept, the rest is made."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
from PIL import Image

from pdm_jax.cli.comparing import beside, check_pictures, write_picture
from pdm_jax.cli.one_picture import Opened, open_run, read_run
from pdm_jax.config import Config
from pdm_jax.data.pictures import Picture, read_picture
from pdm_jax.errors import UserError
from pdm_jax.ops.masks import known_weights
from pdm_jax.pipelines.codes import encoded, table_codes
from pdm_jax.pipelines.edit import Known
from pdm_jax.pipelines.layouts import Layout, Margins, around, check_margins, whole
from pdm_jax.pipelines.mirrored import mirrored
from pdm_jax.pipelines.restore import Model

_GREY = 128  # of what is not known, in comparisons and where codes are read
_JUMP_LENGTH = 5  # steps


def edit_picture(
    args: argparse.Namespace, find_hole: Callable[[Picture], np.ndarray], margins: Margins, *, read_code: bool
) -> int:
    """Fills the holes of a picture and margins around it, and writes the result; returns the exit status.

    Args:
      args: of `edit_flags.add_picture_arguments`.
      find_hole: gives what is to be filled of a picture, (H, W) bool.
      margins: in pixels, filled as well.
      read_code: the code is read from the picture by default, where the model has an encoder.

    Raises:
      UserError: picture, flags and model do not fit together.
    """
    begin = time.perf_counter()
    _check_flags(args)
    config = read_run(args)
    picture = read_picture(args.picture, config.data.channels)
    own = find_hole(picture)
    image = _padded(picture.pixels, margins, mode="reflect")
    hole = _padded(own, margins, constant_values=True)
    config, layout = _canvas(args, config, picture.pixels.shape[:2], margins)
    known = Known(layout.place(image), layout.place(known_weights(hole, args.feather)[..., None]))
    jumps = {"jump_length": args.jump_length or _JUMP_LENGTH, "num_jumps": args.jumps}
    check_pictures(args.out, args.compare)
    opened = open_run(args, config, {"image", "mask"}, jumps)
    default = "image" if read_code and config.codes.kind == "encoder" else "none"
    codes = _codes(args.code or default, opened, np.where(own[..., None], np.uint8(_GREY), picture.pixels))
    result = opened.make(layout, _around_hole(opened.model, known), codes, known=known)
    if jax.process_index() == 0:
        write_picture(Path(args.out), result)
        if args.compare:
            write_picture(Path(args.compare), beside(np.where(hole[..., None], np.uint8(_GREY), image), result))
        made = f"{hole.mean():.0%} of {result.shape[0]}x{result.shape[1]} pixels made"
        print(f"{args.out}: {made} by checkpoint {opened.model.step}, {time.perf_counter() - begin:.1f} s")
    return 0


def _check_flags(args: argparse.Namespace) -> None:
    if args.feather < 0:
        raise UserError(f"--feather is {args.feather}; expected a number of pixels, 0 is a hard edge")
    if args.jump_length is not None and not args.jumps:
        raise UserError("--jump-length is of --jumps; give how often sections are repeated, such as --jumps=2")


def _canvas(
    args: argparse.Namespace, config: Config, picture: tuple[int, int], margins: Margins
) -> tuple[Config, Layout]:
    """The canvas for a picture with margins, and the config at its size."""
    if config.model.system == "ldm":
        size = picture[0] + margins[0] + margins[1], picture[1] + margins[2] + margins[3]
        return mirrored(config, size, args.picture)
    if config.model.system != "patch_dm":
        return config, whole(config.data.size, picture, margins)
    if config.latent.kind != "none":
        raise UserError(f"{args.workdir} holds a patch_dm of latents, which makes whole images only; see pdm sample")
    if any(margins):
        check_margins(config)
    return config, around(config.data.size, config.model.patch_size, picture, margins)


def _around_hole(model: Model, known: Known) -> dict[str, np.ndarray]:
    """What models of the kind `inpaint` are told."""
    if "mask" not in model.system.told:
        return {}
    return {"image": known.image[None], "mask": (known.weights == 0).astype(np.uint8)[None]}


def _codes(choice: str, opened: Opened, picture: np.ndarray) -> np.ndarray | None:
    """The code (1, D) that `choice` names; None where the model has none."""
    model, system, kind = opened.model, opened.model.system, opened.model.config.codes.kind
    if "code" not in system.told:
        if choice != "none":
            raise UserError(f"--code is {choice} and this model has no semantic codes; drop it")
        return None
    if choice == "none":
        if not model.config.loss.code_dropout:
            raise UserError(
                "this model never had to do without a code; give one by --code, or train with "
                "config.loss.code_dropout above 0, such as 0.1"
            )
        return np.zeros((1, *system.told["code"].shape), np.float32)
    if choice == "image":
        if kind != "encoder":
            raise UserError("this model has no encoder that reads a picture; give --code=INDEX of a training image")
        height, width = model.config.data.size
        image = Image.fromarray(picture[..., 0] if picture.shape[2] == 1 else picture).resize(
            (width, height), Image.Resampling.BICUBIC
        )
        batch = np.asarray(image).reshape(1, height, width, -1)
        return next(encoded(system, model.params, iter([batch]), opened.mesh))
    if kind != "table":
        raise UserError(f"--code is {choice} and this model reads codes by an encoder; expected image or none")
    table = table_codes(model, opened.mesh)
    if not choice.isdecimal() or int(choice) >= len(table):
        raise UserError(f"--code is {choice}; expected none, or a training image from 0 to {len(table) - 1}")
    return table[int(choice)][None]


def _padded(image: np.ndarray, margins: Margins, **how: Any) -> np.ndarray:
    """An image (H, W, ...) with margins, as `np.pad` fills them."""
    top, bottom, left, right = margins
    return np.pad(image, [(top, bottom), (left, right)] + [(0, 0)] * (image.ndim - 2), **how)
