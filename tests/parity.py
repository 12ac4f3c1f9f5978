"""Compares this package with the official programs: `python tests/parity.py DIR... [--root DIR] [--kind KIND]`.

Each DIR is a reference case (meta.json, io.npz, weights.safetensors). Prints the error of every output beside its
tolerance. Exit status: 0 all within, 1 something is not, 2 a DIR cannot be run.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # it runs from anywhere, installed or not

import jax

from pdm_jax.errors import UserError
from tests.parity_kinds import Case, open_case
from tests.parity_kinds._tolerance import Verdict, compare


def check(case: Case) -> list[Verdict]:
    """Runs a case and compares everything that it must give."""
    with jax.default_matmul_precision("highest"):
        got = case.kind.run(case)
    trajectories = getattr(case.kind, "TRAJECTORIES", ())
    # The name of an array is a tolerance of its own, and not one of the arrays whose names begin with it.
    names, given = {*case.io, *case.reference}, case.meta["tolerance"]
    return [
        compare(
            name,
            got.get(name),
            ref,
            {key: value for key, value in given.items() if key == name or key not in names},
            any(fnmatchcase(name, p) for p in trajectories),
        )
        for name, ref in case.reference.items()
    ]


def render(verdicts: Sequence[Verdict]) -> str:
    """The verdicts as a table."""
    width = max([len(v.name) for v in verdicts] + [4])
    lines = [f"{'name':{width}}  {'max abs err':>11}  {'max rel err':>11}  {'tolerance':28}  ok"]
    for v in verdicts:
        lines.append(
            f"{v.name:{width}}  {v.max_abs:11.3e}  {v.max_rel:11.3e}  {v.tolerance:28}  {'yes' if v.ok else 'NO'}"
        )
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the cases of the command line; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", metavar="DIR", nargs="+", help="folder of a reference case")
    parser.add_argument("--root", help="folder that the names of cases are relative to (default: found upwards)")
    parser.add_argument("--kind", help="kind of the cases (default: first part of the path below the root)")
    args = parser.parse_args(argv)
    status = 0
    for folder in args.folders:
        try:
            verdicts = check(open_case(folder, args.root, args.kind))
        except UserError as error:
            print(f"error: {error}", file=sys.stderr)
            status = 2
            continue
        passed = sum(v.ok for v in verdicts)
        print(f"{folder}\n{render(verdicts)}\n{passed} of {len(verdicts)} within tolerance\n")
        status = max(status, 0 if passed == len(verdicts) else 1)
    return status


if __name__ == "__main__":
    sys.exit(main())
