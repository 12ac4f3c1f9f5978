"""A sweep as one table, in CSV and Markdown."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pdm_jax.cli.sweep_points import Point
from pdm_jax.cli.sweep_progress import Progress

Row = Mapping[str, Any]


def make_rows(points: Sequence[Point]) -> list[Row]:
    """A row a point by column: what was swept, its size, speeds in images/s, scores, and its status, the last."""
    found = [Progress(point) for point in points]
    scores = list(dict.fromkeys(name for progress in found for name in progress.evaluation.get("scores", {})))
    return [
        {
            "point": point.name,
            **point.values,
            "parameters": point.num_params,
            "step": progress.evaluation.get("step", progress.step),
            "train_images_per_s": progress.train_speed,
            "sample_images_per_s": progress.sample_speed,
            **{name: progress.evaluation.get("scores", {}).get(name) for name in scores},
            "status": progress.status,
        }
        for point, progress in zip(points, found, strict=True)
    ]


def write_tables(folder: Path, rows: Sequence[Row]) -> None:
    """Writes `results.csv` with all digits and `results.md` to read."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]))
    writer.writeheader()
    writer.writerows(rows)
    (folder / "results.csv").write_text(text.getvalue(), newline="")
    (folder / "results.md").write_text(markdown(rows))


def markdown(rows: Sequence[Row]) -> str:
    """A table with columns of even width: as readable in a terminal as it is rendered."""
    names = [name.replace("_images_per_s", " images/s").replace("_", " ") for name in rows[0]]
    cells = [names, *([_cell(value) for value in row.values()] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    is_number = [all(not isinstance(row[name], str) for row in rows) for name in rows[0]]
    lines = [
        [
            text.rjust(width) if right else text.ljust(width)
            for text, width, right in zip(line, widths, is_number, strict=True)
        ]
        for line in cells
    ]
    rule = ["-" * (width - 1) + (":" if right else "-") for width, right in zip(widths, is_number, strict=True)]
    return "".join(f"| {' | '.join(line)} |\n" for line in [lines[0], rule, *lines[1:]])


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.4g}"
    return f"{value:,}" if isinstance(value, int) else str(value).replace("|", "\\|")
