"""Figure 3: the first losses of networks that put out x0, eps or v, patched and not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from report import Row

from paper.lab import Lab
from paper.pictures import chart

_WINDOWS = 20  # points of a curve


def run(lab: Lab, out: Path) -> list[Row]:
    """L_simple (x0 error summed over pixels, times sqrt(SNR)) of x0-, eps- and v-networks at P = 4, 1 (figure 3).

    All minimise this same loss and see the same images, t and noise. A point is the mean of a window of steps.
    """
    steps = lab.scale.num_curve_steps
    curves = {
        (patch_size, prediction): _windows(lab.train(patch_size, prediction, "sqrt_snr", steps).losses)
        for patch_size in (4, 1)
        for prediction in ("x0", "eps", "v")
    }
    ends = np.linspace(0, steps, min(_WINDOWS, steps) + 1)[1:]
    title = f"Training loss by prediction ({lab.title})"
    with chart(out / "curves.png", title, "step", "sqrt(SNR) |x0 - x0_hat|², summed over pixels") as axes:
        for (patch_size, prediction), values in curves.items():
            colour = {"x0": "tab:blue", "eps": "tab:red", "v": "tab:green"}[prediction]
            style = "-" if patch_size == 4 else "--"
            axes.plot(ends, values, style, color=colour, label=f"{prediction}, P = {patch_size}")
        axes.set_yscale("log")
    return [
        {"step": int(end)} | {f"{prediction} P={p}": float(values[i]) for (p, prediction), values in curves.items()}
        for i, end in enumerate(ends)
    ]


def _windows(losses: np.ndarray) -> np.ndarray:
    return np.array([part.mean() for part in np.array_split(losses, min(_WINDOWS, len(losses)))])
