"""The flags of sampling, the same for every command that makes images from a workdir."""

from __future__ import annotations

import argparse
import hashlib
import json
from collections.abc import Mapping
from typing import Any

from pdm_jax.errors import UserError

SETTINGS = (
    *("sampler", "steps", "eta", "guidance", "guidance_from", "guidance_to"),
    *("clip", "percentile", "last_alpha", "unguided_last", "max_patches", "temperature", "tile", "decode_tile"),
)
GUIDES = ("classifier", "classifier_scale", "guide", "guide_by", "guide_scale", "guide_lpips")
BATCH_SIZE = 64
_DEFAULTS = {
    "labels": "cycle",
    "prior": None,
    "prompt": None,
    "told": None,
    **dict.fromkeys(GUIDES),
    "seed": 0,
    "weights": "ema",
    "step": None,
    **dict.fromkeys(SETTINGS),
}


def add_sampling_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds what changes generated images; what is not given is taken from the run's config.sample."""
    group = parser.add_argument_group("sampling")
    group.add_argument("--labels", help="'cycle' (round the classes) or numbers like 0,1,7")
    group.add_argument(
        "--prior", metavar="DIR", help="workdir of the latent prior of semantic codes (default: WORKDIR/prior)"
    )
    group.add_argument(
        "--prompt", action="append", metavar="TEXT", help="what images show, for models of text; repeat it for more"
    )
    group.add_argument(
        "--told",
        metavar="SOURCE",
        help="data whose captions, layouts, maps, small images or holes images are made of (default: the run's own)",
    )
    group.add_argument("--seed", type=int)
    group.add_argument("--sampler", help="ancestral, ancestral-small, ancestral-large, ddim or plms")
    group.add_argument("--steps", help="a count, sections 90,60,60,20,20, or ddim50, uniform50, quad50")
    group.add_argument("--eta", type=float, help="noise of ddim, 0 to 1")
    group.add_argument("--temperature", type=float, help="what the sampler's noise is multiplied by")
    group.add_argument("--guidance", type=float, help="w in uncond + w (cond - uncond); 1 is none")
    group.add_argument("--guidance-from", type=int, metavar="T", help="guidance acts from this step of noise on ...")
    group.add_argument("--guidance-to", type=int, metavar="T", help="... and below this one (default: all)")
    _add_guides(group)
    group.add_argument("--clip", help="of x0 at each step: none, static or dynamic")
    group.add_argument("--percentile", type=float, help="of |x0| that a dynamic clip goes to, in (0, 100]")
    group.add_argument("--last-alpha", help="where the last step goes: one (a clean image) or first")
    group.add_argument(
        "--unguided-last", action=argparse.BooleanOptionalAction, help="last step neither guided nor clipped"
    )
    group.add_argument(
        "--max-patches",
        type=int,
        metavar="N",
        help="Patch-DM: patches computed at once, for huge images (default: all)",
    )
    group.add_argument(
        "--tile", type=int, metavar="N", help="latent diffusion: latents denoised in tiles of this side that overlap"
    )
    group.add_argument(
        "--decode-tile", type=int, metavar="N", help="latent diffusion: latents decoded at once, a side (default: all)"
    )
    group.add_argument("--weights", choices=("ema", "params"), help="averaged or last (default: ema)")
    group.add_argument("--step", help="which checkpoint: a number, or best (default: the newest)")
    group.add_argument(
        "--batch-size", type=int, default=BATCH_SIZE, help=f"images computed at once (default: {BATCH_SIZE})"
    )
    group.add_argument(
        "--space", type=int, default=1, help="devices that share the rows of each image, for huge ones (default: 1)"
    )
    parser.set_defaults(**_DEFAULTS)


def _add_guides(group) -> None:
    group.add_argument("--classifier", metavar="DIR", help="workdir of a classifier that guides to --labels")
    group.add_argument("--classifier-scale", type=float, metavar="S", help="of its gradient (default: 1)")
    group.add_argument("--guide", metavar="PICTURE", help="images are guided to be like it")
    group.add_argument(
        "--guide-by",
        choices=("l2", "lowres", "lpips"),
        help="how alike: pixels, pixels of images as small as the picture, or LPIPS (default: l2)",
    )
    group.add_argument("--guide-scale", type=float, metavar="S", help="of the gradient (default: 1)")
    group.add_argument("--guide-lpips", metavar="FILES", help="alex:BACKBONE,HEADS or vgg:BACKBONE,HEADS")


def refuse_sampling_arguments(args: argparse.Namespace) -> None:
    """Raises a `UserError` if a flag of sampling was given where nothing is sampled."""
    for name, default in _DEFAULTS.items():
        if getattr(args, name) != default:
            raise UserError(f"--{name.replace('_', '-')} is of sampling and needs --workdir")


def digest(facts: Mapping[str, Any]) -> str:
    """Eight hex digits that name plain JSON by its content."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:8]
