"""A sweep as one picture: quality against speed of sampling."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pdm_jax.cli.sweep_report import Row

_SPEED = "sample_images_per_s"
_LINE = 12.0  # height of a label, in points
_LOWER_IS_BETTER = ("fid", "sfid", "kid")


def quality_column(rows: Sequence[Row], metric: str) -> str | None:
    """The column of a metric, such as `fid_local` of "fid"; None where nothing has been evaluated."""
    return next((name for row in rows for name in row if name.partition("_")[0] == metric), None)


def plot(path: Path, rows: Sequence[Row], quality: str) -> bool:
    """Draws a labelled marker for each point that has a speed and a quality; returns whether there is any.

    Args:
      path: of the PNG.
      rows: from `make_rows`; a colour for each patch size.
      quality: the column that is drawn upwards.
    """
    from matplotlib.figure import Figure  # without pyplot: no display, no global state

    shown = sorted((row for row in rows if row[_SPEED] and row[quality] is not None), key=lambda row: row[quality])
    if not shown:
        return False
    figure = Figure(figsize=(8, 5), layout="constrained", dpi=150)
    axes = figure.subplots()
    sizes = sorted({row["patch_size"] for row in shown}, key=str)
    colours = [f"C{sizes.index(row['patch_size'])}" for row in shown]
    for row, colour in zip(shown, colours, strict=True):
        axes.plot(row[_SPEED], row[quality], "o", markersize=8, color=colour)
    _scale(axes, [row[_SPEED] for row in shown])
    axes.margins(0.1)
    axes.set_xlabel("sampling, images/s")
    axes.set_ylabel(_axis_label(quality))
    axes.grid(alpha=0.3)
    figure.draw_without_rendering()  # places are final now
    _label(axes, [(row[_SPEED], row[quality]) for row in shown], list(map(_point_label, shown)), colours)
    figure.savefig(path)
    return True


def _scale(axes: Any, speeds: Sequence[float]) -> None:
    """Speeds on a logarithmic axis where they are far apart, as plain numbers."""
    from matplotlib.ticker import LogLocator, NullLocator

    if max(speeds) > 10 * min(speeds):
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter("{x:g}")


def _label(axes: Any, places: Sequence[tuple[float, float]], texts: Sequence[str], colours: Sequence[str]) -> None:
    """Writes labels beside markers, given upwards; one that would cover another of its colour is moved up."""
    from matplotlib.patheffects import withStroke

    points_per_pixel = 72 / axes.figure.dpi
    middle = axes.transAxes.transform((0.5, 0.5))[0]
    top: dict[str, float] = {}
    for place, text, colour in zip(places, texts, colours, strict=True):
        x, y = axes.transData.transform(place) * points_per_pixel
        top[colour] = max(y, top.get(colour, -math.inf) + _LINE)
        is_left = x > middle * points_per_pixel  # of its marker, so that it stays inside the picture
        axes.annotate(
            text,
            place,
            xytext=(-9 if is_left else 9, top[colour] - y),
            textcoords="offset points",
            horizontalalignment="right" if is_left else "left",
            verticalalignment="center",
            color=colour,
            path_effects=[withStroke(linewidth=3, foreground="white")],  # readable over markers
        )


def _point_label(row: Row) -> str:
    """`patch size 2, learning rate 0.0001`."""
    swept = list(row)[1 : list(row).index("parameters")]
    return ", ".join(f"{name.replace('_', ' ')} {row[name]}" for name in swept)


def _axis_label(column: str) -> str:
    metric, _, network = column.partition("_")
    name = metric.upper() if len(metric) <= 4 else metric
    features = f" of {network} features" if network else ""
    return f"{name}{features} ({'lower' if metric in _LOWER_IS_BETTER else 'higher'} is better)"
