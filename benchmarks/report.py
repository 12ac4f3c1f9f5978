"""The one shape of all benchmarks: a table on the screen, and the same as JSON with machine, versions and spread."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import jax
import numpy as np

Row = Mapping[str, Any]


def spread(samples: Sequence[float]) -> dict[str, float]:
    """The median and the 10th and 90th percentile of repeated measurements, and their number."""
    low, median, high = np.percentile(samples, [10, 50, 90])
    return {"median": float(median), "low": float(low), "high": float(high), "repeats": len(samples)}


def show(spread: Mapping[str, float], unit: str = "") -> str:
    """`median [low, high] unit` with three digits."""
    return f"{spread['median']:.3g} [{spread['low']:.3g}, {spread['high']:.3g}] {unit}".rstrip()


def machine() -> dict[str, Any]:
    """What the numbers were measured on; the load average tells whether it was quiet."""
    return {
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "devices": [f"{device.platform} {device.device_kind}" for device in jax.devices()],
        "load_average": list(os.getloadavg()),
        "python": platform.python_version(),
        "versions": {name: version for name in ("jax", "jaxlib", "flax", "torch") if (version := _version(name))},
    }


def report(name: str, rows: Sequence[Row], out: str | None) -> None:
    """Prints the rows as a table and writes them with the machine to `out`, a JSON file, where one is given.

    A value that is a mapping, as from `spread`, is shown in brief and written in full.
    """
    here = machine()
    print(f"{name}: {here['processor']}, {here['cores']} cores, {', '.join(here['devices'])}; ", end="")
    print(", ".join(f"{name} {version}" for name, version in here["versions"].items()))
    cells = [list(rows[0])] + [[_cell(value) for value in row.values()] for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    for line in cells:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())
    if out is not None:
        Path(out).write_text(json.dumps({"benchmark": name, "machine": here, "rows": list(rows)}, indent=1) + "\n")


def _cell(value: Any) -> str:
    if isinstance(value, Mapping):
        return show(value)
    return f"{value:.4g}" if isinstance(value, float) else "" if value is None else str(value)


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
