"""What an evaluation leaves behind: a JSON file of its own and a row in a table of all."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pdm_jax.errors import UserError
from pdm_jax.files import write_whole

TABLE = "results.csv"


def write_results(folder: Path, facts: Mapping[str, Any], scores: Mapping[str, float]) -> Path:
    """Writes `scores-TIME.json` and appends to `results.csv` in a folder, which is made.

    Args:
      folder: where.
      facts: what was scored and how, plain values; a column each.
      scores: numbers by name; a column each.

    Returns:
      The JSON file.

    Raises:
      UserError: the folder cannot be written to; nothing is half written.
    """
    now = datetime.now(UTC)
    record = {"time": now.isoformat(timespec="seconds"), **facts, "scores": {k: plain(v) for k, v in scores.items()}}
    path = folder / f"scores-{now:%Y%m%dT%H%M%S%f}.json"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        text = json.dumps(record, indent=1) + "\n"
        write_whole(path, lambda file: file.write(text.encode()))
        append_row(folder / TABLE, {**{k: v for k, v in record.items() if k != "scores"}, **record["scores"]})
    except OSError as error:
        raise UserError(f"cannot write to {folder}: {error.strerror}; choose another --out") from error
    return path


def append_row(path: Path, row: Mapping[str, Any]) -> None:
    """Adds a row to a CSV table; columns that it does not have yet go to its right end."""
    texts = {key: "" if value is None else str(value) for key, value in row.items()}
    columns: list[str] = []
    rows: list[Mapping[str, str]] = []
    if path.exists():
        with path.open(newline="") as file:
            reader = csv.DictReader(file)
            columns, rows = list(reader.fieldnames or ()), list(reader)
    if columns and set(texts) <= set(columns):
        with path.open("a", newline="") as file:  # one write: tables of several processes do not mix
            csv.DictWriter(file, columns, restval="").writerow(texts)
        return
    columns += [key for key in texts if key not in columns]
    table = io.StringIO(newline="")
    writer = csv.DictWriter(table, columns, restval="")
    writer.writeheader()
    writer.writerows([*rows, texts])
    write_whole(path, lambda file: file.write(table.getvalue().encode()))


def plain(value: float) -> float | str:
    """A number as JSON can hold it: infinity, such as the PSNR of equal images, as a text."""
    return value if math.isfinite(value) else str(value)
