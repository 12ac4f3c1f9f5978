"""Pictures as PNG files: lines and sheets of images."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure


@contextmanager
def chart(path: Path, title: str, x: str, y: str) -> Iterator[Axes]:
    """Axes with labels to draw into; the legend and the file are made at the end."""
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    axes.set(title=title, xlabel=x, ylabel=y)
    axes.grid(alpha=0.3)
    yield axes
    if axes.get_legend_handles_labels()[0]:
        figure.legend(loc="outside lower center", ncols=3)
    figure.savefig(path, dpi=130)


def sheet(path: Path, title: str, rows: Mapping[str, np.ndarray], columns: Sequence[str]) -> None:
    """Images in [-1, 1], clipped to it, in named rows (len(columns), H, W, 3) and named columns."""
    figure = Figure(figsize=(1.1 * len(columns) + 1.2, 1.1 * len(rows) + 0.7), layout="constrained")
    figure.suptitle(title)
    grid = figure.subplots(len(rows), len(columns), squeeze=False)
    for axes, column in zip(grid[0], columns, strict=True):
        axes.set_title(column, fontsize=9)
    for line, (name, images) in zip(grid, rows.items(), strict=True):
        line[0].set_ylabel(name, fontsize=9, rotation=0, ha="right", va="center")
        for axes, image in zip(line, images, strict=True):
            axes.imshow(np.clip((np.asarray(image) + 1) / 2, 0, 1), interpolation="nearest")
            axes.set(xticks=[], yticks=[])
    figure.savefig(path, dpi=130)
