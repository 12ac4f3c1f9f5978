"""A sweep as one picture: quality against speed of sampling."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pdm_jax.cli.sweep_report import Row

_LOWER_IS_BETTER = ("fid", "sfid", "kid")


def quality_column(rows: Sequence[Row], metric: str) -> str | None:
    """The column of a metric, such as `fid_local` of "fid"; None where nothing has been evaluated."""
    return next((name for row in rows for name in row if name.partition("_")[0] == metric), None)


def plot(path: Path, rows: Sequence[Row], quality: str) -> bool:
    """Draws a marker for each point that has a speed and a quality; returns whether there is any.

    Args:
      path: of the PNG.
      rows: from `make_rows`.
      quality: the column that is drawn upwards.
    """
    from matplotlib.figure import Figure  # without pyplot: no display, no global state

    speed = "sample_images_per_s"
    shown = [row for row in rows if row[speed] and row[quality] is not None]
    if not shown:
        return False
    figure = Figure(figsize=(7, 5), layout="constrained", dpi=150)
    axes = figure.subplots()
    swept = list(shown[0])[1 : list(shown[0]).index("parameters")]
    middle = (min(row[speed] for row in shown) * max(row[speed] for row in shown)) ** 0.5
    for row in shown:
        (marker,) = axes.plot(row[speed], row[quality], "o", markersize=8)
        left = row[speed] > middle  # labels stay inside the picture
        axes.annotate(
            ", ".join(f"{name.replace('_', ' ')} {row[name]}" for name in swept),
            (row[speed], row[quality]),
            xytext=(-9 if left else 9, 0),
            textcoords="offset points",
            horizontalalignment="right" if left else "left",
            verticalalignment="center",
            color=marker.get_color(),
        )
    axes.set_xscale("log")
    axes.margins(0.1)
    axes.set_xlabel("sampling, images/s")
    axes.set_ylabel(_label(quality))
    axes.grid(which="both", alpha=0.25)
    figure.savefig(path)
    return True


def _label(column: str) -> str:
    metric, _, network = column.partition("_")
    name = metric.upper() if len(metric) <= 4 else metric
    features = f" of {network} features" if network else ""
    return f"{name}{features} ({'lower' if metric in _LOWER_IS_BETTER else 'higher'} is better)"
