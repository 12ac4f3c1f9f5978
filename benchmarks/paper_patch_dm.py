"""The Patch-DM paper's ablations at small scale: its table 4, and the borders of its figure 2a.

  python benchmarks/paper_patch_dm.py [--data builtin:photos] [--scale small] [--only ROW ...] [--out FOLDER]

Trains small networks on photographs and compares feature collage with shifts of pixels, without positions, without
semantic codes, and with patches that never meet. Prints a table with the spread over seeds, says which rows the seeds
separate, and writes it as JSON with a picture of samples side by side into the folder.

`small` is for a CPU, `large` for an accelerator, and `smoke` only shows that it
runs. `--data` is any data source of `pdm train`.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from patch_dm import table
from patch_dm.training import read_photographs
from patch_dm.variants import ROWS, SCALES
from report import report

from pdm_jax.errors import UserError


def main(argv: list[str] | None = None) -> int:
    """Runs the comparison; returns 2 after a user's mistake."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", default="builtin:photos", metavar="SOURCE", help="any data source")
    parser.add_argument("--scale", choices=SCALES, default="small")
    parser.add_argument("--only", nargs="+", choices=ROWS, default=list(ROWS), metavar="ROW", help="these rows")
    folder = Path(__file__).parent / "results" / "paper_patch_dm"
    parser.add_argument("--out", type=Path, default=folder, metavar="FOLDER")
    args = parser.parse_args(argv)
    scale = SCALES[args.scale]
    try:
        photographs = read_photographs(args.data, scale.image_size, scale.num_images, scale.num_samples)
    except UserError as error:
        print(f"paper_patch_dm: {error}", file=sys.stderr)
        return 2
    args.out.mkdir(parents=True, exist_ok=True)
    rows = table.run(photographs, scale, args.only, args.out)
    report(f"table 4, {photographs.name}, scale {args.scale}", rows, args.out / "table.json")
    print("Least first; `~` where the seeds do not separate two rows:")
    for measure in ("distance", "seams"):
        print(f"{measure}: {table.order(rows, measure)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
