"""What the commands share that go on from a picture: what is known of it is kept, the rest is made."""

from __future__ import annotations

import argparse
import dataclasses
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import jax
import numpy as np
from jax.sharding import Mesh
from PIL import Image

from pdm_jax.cli.comparing import beside, check_pictures, write_picture
from pdm_jax.cli.progress import collected
from pdm_jax.cli.sampling_flags import BATCH_SIZE, SETTINGS
from pdm_jax.config import Config, MeshConfig
from pdm_jax.data.pictures import Picture, read_picture
from pdm_jax.errors import UserError
from pdm_jax.ops.masks import known_weights
from pdm_jax.parallel import make_mesh
from pdm_jax.pipelines.codes import encoded, table_codes
from pdm_jax.pipelines.edit import Known, make_edit, num_steps
from pdm_jax.pipelines.generate import generate, make_generate, tell
from pdm_jax.pipelines.layouts import Layout, Margins, around, check_margins, whole
from pdm_jax.pipelines.restore import Model, read_config, restore_model
from pdm_jax.systems import make_system

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
    config, mesh = _read(args), make_mesh(MeshConfig(space=args.space))
    picture = read_picture(args.picture, config.data.channels)
    image = _padded(picture.pixels, margins, 0)
    hole = _padded(find_hole(picture), margins, True)
    layout = _layout(config, picture.pixels.shape[:2], margins)
    known = Known(layout.place(image), layout.place(known_weights(hole, args.feather)[..., None]))
    system = make_system(config)
    jumps = {"jump_length": args.jump_length or _JUMP_LENGTH, "num_jumps": args.jumps}
    # What does not fit is refused before weights are read.
    make_generate(system, config.sample, make_mesh(MeshConfig()))
    steps = num_steps(system, config.sample, **jumps)
    check_pictures(args.out, args.compare)
    model = restore_model(args.workdir, system, config, mesh, weights=args.weights, step=args.step)
    default = "image" if read_code and config.codes.kind == "encoder" else "none"
    own = find_hole(picture)[..., None]
    codes = _codes(args.code or default, model, np.where(own, np.uint8(_GREY), picture.pixels), mesh)
    told = tell(system, args.labels, 1, codes)

    def batches(on_step: Callable[[], object] | None) -> Iterator[np.ndarray]:
        run = make_edit(system, config.sample, mesh, layout, known=known, on_step=on_step, **jumps)
        return generate(run, model.params, args.seed, 1, told, mesh, batch_size=1)

    (result,) = layout.cut(collected(batches, 1, steps))
    if jax.process_index() == 0:
        write_picture(Path(args.out), result)
        if args.compare:
            write_picture(Path(args.compare), beside(np.where(hole[..., None], np.uint8(_GREY), image), result))
        made = f"{hole.mean():.0%} of {result.shape[0]}x{result.shape[1]} pixels made"
        print(f"{args.out}: {made} by checkpoint {model.step}, {time.perf_counter() - begin:.1f} s")
    return 0


def _check_flags(args: argparse.Namespace) -> None:
    if args.feather < 0:
        raise UserError(f"--feather is {args.feather}; expected a number of pixels, 0 is a hard edge")
    if args.jump_length is not None and not args.jumps:
        raise UserError("--jump-length is of --jumps; give how often sections are repeated, such as --jumps=2")
    if args.batch_size != BATCH_SIZE:
        raise UserError("--batch-size is for commands that make many images; this one makes one")


def _read(args: argparse.Namespace) -> Config:
    """The config of the run, with the flags of sampling in it."""
    if args.prior is not None:
        raise UserError("--prior is for whole images; a picture has the code that --code names")
    if not 0 <= args.seed < 2**32:
        raise UserError(f"--seed is {args.seed}; expected 0 to 2**32 - 1")
    config = read_config(args.workdir, args.step)
    if config.model.system == "code_prior":
        raise UserError(f"{args.workdir} is a prior of semantic codes; give the model that it is for")
    if args.max_patches is not None and config.model.system != "patch_dm":
        raise UserError(f"--max-patches is for models of patch_dm; {args.workdir} holds one of {config.model.system}")
    settings = {name: getattr(args, name) for name in SETTINGS if getattr(args, name) is not None}
    return dataclasses.replace(config, sample=dataclasses.replace(config.sample, **settings))


def _layout(config: Config, picture: tuple[int, int], margins: Margins) -> Layout:
    if config.model.system != "patch_dm":
        return whole(config.data.size, picture, margins)
    if any(margins):
        check_margins(config)
    return around(config.data.size, config.model.patch_size, picture, margins)


def _codes(choice: str, model: Model, picture: np.ndarray, mesh: Mesh) -> np.ndarray | None:
    """The code (1, D) that `choice` names; None where the model has none."""
    system, kind = model.system, model.config.codes.kind
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
        return next(encoded(system, model.params, iter([batch]), mesh))
    if kind != "table":
        raise UserError(f"--code is {choice} and this model reads codes by an encoder; expected image or none")
    table = table_codes(model, mesh)
    if not choice.isdecimal() or int(choice) >= len(table):
        raise UserError(f"--code is {choice}; expected none, or a training image from 0 to {len(table) - 1}")
    return table[int(choice)][None]


def _padded(image: np.ndarray, margins: Margins, value: int) -> np.ndarray:
    """An image (H, W, ...) with margins of a value."""
    top, bottom, left, right = margins
    padding = [(top, bottom), (left, right)] + [(0, 0)] * (image.ndim - 2)
    return np.pad(image, padding, constant_values=value)
