"""Figure 4: at t = 970 the x0_hat of an eps-network is far noisier than that of an x0-network."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from report import Row

from paper.lab import Lab, noisy
from paper.optimal import fine_detail, optimal_x0, posterior
from paper.pictures import sheet

_T = 970
_IMAGES, _SHOWN = 64, 6


def run(lab: Lab, out: Path) -> list[Row]:
    """x0_hat of an eps- and an x0-network against x* of the training set at t = 970 (figure 4).

    Both have P = 4 and differ in what they put out and in their losses only: the eps-network minimises the error of
    eps as ADM does, the other one the paper's loss. (The paper's eps-network is ADM itself, P = 1.) z_t are of
    training images. RMSE is over pixels in [-1, 1]; `fine detail` is the power of waves shorter than 8 pixels.
    """
    networks = {"eps-network": lab.train(4, "eps", "mse", lab.scale.num_steps), "x0-network": lab.network(4)}
    system, images = lab.network(4).system, np.asarray(lab.images, np.float64) / 127.5 - 1
    x0, z_t = noisy(system, lab.images[:_IMAGES], _T)
    star = optimal_x0(posterior(z_t, _T, images, system.process), images)
    found = {name: np.asarray(network.x0(z_t, _T)) for name, network in networks.items()} | {"x*": star}
    shown = {"z_t": z_t, **found, "x0": x0}
    sheet(
        out / "estimates.png",
        f"Estimates of x0 at t = {_T}, P = 4 ({lab.title})",
        {name: np.asarray(array)[:_SHOWN] for name, array in shown.items()},
        [""] * _SHOWN,
    )
    return [
        {"estimate": name, "RMSE to x*": _rmse(array, star), "RMSE to x0": _rmse(array, np.asarray(x0))}
        | {"fine detail": fine_detail(array)}
        for name, array in found.items()
    ]


def _rmse(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.sqrt(np.square(a - b).mean()))
