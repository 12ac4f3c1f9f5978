"""Figure 2: how much larger the error of x0_hat is with larger patches, over t."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from report import Row

from paper.lab import Lab, noisy
from paper.pictures import chart

_TIMES = (0, 5, 10, 20, 40, 60, 80, *range(100, 1000, 50), 998)


def run(lab: Lab, out: Path) -> list[Row]:
    """RMSE of x0_hat on held-out images, pixels in [-1, 1], of P = 2, 4, 8 and their ratios to P = 2 (figure 2).

    The weighted x0 loss is a sum over all t, so a ratio says where a network spends its capacity. A network has one
    seed: the ratios move by some per cent with another.
    """
    rows = []
    networks = {f"P={p}": lab.network(p) for p in (2, 4, 8)}
    for t in _TIMES:
        rmse = {name: _rmse(network, lab.held_out, t) for name, network in networks.items()}
        ratios = {f"{name} / P=2": rmse[name] / rmse["P=2"] for name in ("P=4", "P=8")}
        rows.append({"t": t, **rmse, **ratios})
    with chart(out / "distortion.png", f"Distortion against P = 2 ({lab.title})", "t", "ratio of RMSE of x0") as axes:
        axes.axhline(1, color="black", linewidth=0.8)
        for name in ("P=4 / P=2", "P=8 / P=2"):
            axes.plot(_TIMES, [row[name] for row in rows], marker=".", label=name)
    return rows


def _rmse(network, images: np.ndarray, t: int) -> float:
    batches = np.split(images, range(64, len(images), 64))
    errors = []
    for seed, batch in enumerate(batches):
        x0, z_t = noisy(network.system, batch, t, seed)
        errors.append(np.square(np.asarray(network.x0(z_t, t)) - np.asarray(x0)).reshape(len(batch), -1).mean(axis=1))
    return float(np.sqrt(np.concatenate(errors).mean()))
