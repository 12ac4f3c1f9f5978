"""The PDM paper's analyses at small scale: figures 1 to 4, table 1 and the memory of section 4.3.

  python benchmarks/paper_pdm.py [--data builtin:photos] [--scale small] [--only PART ...] [--out FOLDER]

Each part writes its numbers as JSON and its pictures as PNG into the folder, and prints a table:

  distortion        figure 2    error of x0_hat with P = 4, 8 against P = 2, over t
  curves            figure 3    first losses with x0, eps and v, patched and not
  blur              figure 1a   the optimal x* of the data in closed form, over t
  reconstructions   figure 1b   several images that one z_t may have been
  estimates         figure 4    x0_hat of an eps- and an x0-network at t = 970, and x*
  table             table 1     quality and speed of P = 2, 4, 8
  memory            section 4.3 memory of an image of 1024x1024, P = 4 and P = 1

`small` takes less than 20 minutes on one core of a CPU, `large` is for an accelerator, `smoke` only shows that all
parts run. `--data` is any data source of `pdm train`; with labels, the features of `table` learn them.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from paper import blur, curves, distortion, estimates, memory, reconstructions, table
from paper.lab import SCALES, Lab
from report import report

from pdm_jax.errors import UserError

PARTS = {
    "distortion": distortion,
    "curves": curves,
    "blur": blur,
    "reconstructions": reconstructions,
    "estimates": estimates,
    "table": table,
    "memory": memory,
}


def main(argv: list[str] | None = None) -> int:
    """Runs the parts; returns 2 after a user's mistake."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", default="builtin:photos", metavar="SOURCE", help="any data source")
    parser.add_argument("--scale", choices=SCALES, default="small")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS), metavar="PART")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "paper_pdm", metavar="FOLDER")
    args = parser.parse_args(argv)
    try:
        lab = Lab(args.data, SCALES[args.scale])
    except UserError as error:
        print(f"paper_pdm: {error}", file=sys.stderr)
        return 2
    args.out.mkdir(parents=True, exist_ok=True)
    for name in args.only:
        rows = PARTS[name].run(lab, args.out)
        report(f"{name}, {lab.title}, scale {args.scale}", rows, args.out / f"{name}.json")
    return 0


if __name__ == "__main__":
    sys.exit(main())
