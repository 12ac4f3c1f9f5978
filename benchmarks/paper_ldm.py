"""The latent diffusion paper's analyses, and what composes with latents, at small scale.

  python benchmarks/paper_ldm.py [--data builtin:digits] [--scale small] [--part PART ...] [--out FOLDER]

Each part writes its numbers as JSON and its pictures as PNG into the folder, and prints a table:

  flops        figures 6, 7, table 6  what LDM-1, -2, -4, -8 with equally many parameters compute, and what composes
  speed        figures 6, 7, table 6  their images/s in training and sampling
  composition                         images/s of patching, a split model and feature collage of latents
  decoding                            memory of decoding with rows over several devices
  quality      figures 6, 7           quality against training steps, and against samples/s
  rates        figure 2               rate and distortion along the chain of a pixel model
  neighbours   figures 32 to 34       training images nearest to samples
  rescaling    figure 15              samples larger than the trained ones, with latents rescaled and not
  inpainting   table 7                holes filled, by the share of the image that they cover

Networks are trained in the folder when a part first needs them; the same command goes on after an interruption.
`small` is for a CPU, `smallest` only shows that all parts run, `paper` has the sizes
of table 14 and is for accelerators. First stages have a KL term and neither LPIPS nor a critic. `--data` is any data
source of `pdm train`.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from ldm import composition, decoding, flops, inpainting, neighbours, quality, rates, rescaling, speed
from ldm.lab import Lab
from ldm.scales import SCALES
from report import report

from pdm_jax.errors import UserError

PARTS = {
    "flops": flops,
    "speed": speed,
    "composition": composition,
    "decoding": decoding,
    "quality": quality,
    "rates": rates,
    "neighbours": neighbours,
    "rescaling": rescaling,
    "inpainting": inpainting,
}


def main(argv: list[str] | None = None) -> int:
    """Runs the parts; returns 2 after a user's mistake."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", default="builtin:digits", metavar="SOURCE", help="any data source")
    parser.add_argument("--scale", choices=SCALES, default="small")
    parser.add_argument("--part", nargs="+", choices=PARTS, default=list(PARTS), metavar="PART", help="these parts")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "paper_ldm", metavar="FOLDER")
    args = parser.parse_args(argv)
    try:
        lab = Lab(args.data, SCALES[args.scale], args.out)
        args.out.mkdir(parents=True, exist_ok=True)
        for name in args.part:
            rows = PARTS[name].run(lab, args.out)
            report(f"{name}, {lab.title}, scale {args.scale}", rows, args.out / f"{name}.json")
    except UserError as error:
        print(f"paper_ldm: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
