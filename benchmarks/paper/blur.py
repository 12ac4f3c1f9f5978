"""Figure 1a: the optimal reconstruction grows blurred with t."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from report import Row

from paper.lab import Lab, noisy
from paper.optimal import effective_number, fine_detail, optimal_x0, posterior
from paper.pictures import chart, sheet

_TIMES = (0, 100, 200, 300, 400, 500, 600, 700, 800, 850, 900, 950, 998)
_SHOWN = (0, 200, 400, 600, 700, 800, 900, 998)
_IMAGES = 64


def run(lab: Lab, out: Path) -> list[Row]:
    """x* of the training set and x0_hat of a P = 2 network at noisy images, over t (figure 1a).

    `fine detail` is the power of waves shorter than 8 pixels relative to that of the clean images. Both start from
    the same noise; x* from training images, as a posterior of N images knows no others, the network from held-out
    ones. `images in x*` is the median of exp(entropy) of the posterior.
    """
    network, images = lab.network(2), np.asarray(lab.images, np.float64) / 127.5 - 1
    rows, stars, guesses = [], {}, {}
    for t in _TIMES:
        x0, z_t = map(np.asarray, noisy(network.system, lab.images[:_IMAGES], t))
        weights = posterior(z_t, t, images, network.system.process)
        stars[t] = optimal_x0(weights, images)
        held_out, z_t = noisy(network.system, lab.held_out[:_IMAGES], t)
        guesses[t] = np.asarray(network.x0(z_t, t))
        rows.append(
            {
                "t": t,
                "fine detail of x*": fine_detail(stars[t]) / fine_detail(x0),
                "fine detail of x0_hat": fine_detail(guesses[t]) / fine_detail(np.asarray(held_out)),
                "images in x*": float(np.median(effective_number(weights))),
            }
        )
    with chart(out / "blur.png", f"Blur grows with t ({lab.title})", "t", "power of fine detail, of clean = 1") as axes:
        axes.plot(_TIMES, [row["fine detail of x*"] for row in rows], marker=".", label="x* of the training set")
        axes.plot(_TIMES, [row["fine detail of x0_hat"] for row in rows], marker=".", label="x0_hat, P = 2, held out")
    sheet(
        out / "blur_images.png",
        f"Reconstructions as t increases ({lab.title})",
        {
            "x* (training set)": [x0[0], *(stars[t][0] for t in _SHOWN)],
            "x0_hat (P = 2)": [held_out[0], *(guesses[t][0] for t in _SHOWN)],
        },
        ["x0", *(f"t = {t}" for t in _SHOWN)],
    )
    return rows
