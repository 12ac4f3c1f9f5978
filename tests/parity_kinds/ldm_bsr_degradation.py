"""LDM's degradation: kernels, Matlab's resizing, blur, and whole degradations with the program's random numbers.

The whole ones hang on OpenCV's last bits, so they are no outputs to be met pixel by pixel: `run` replays them and
refuses to go on when the images are not nearly the same. (Single precision changes one in forty of them.)
"""

from __future__ import annotations

import re

import numpy as np

from pdm_jax.data.degradations import kernels, operators
from pdm_jax.data.degradations.bsr import FULL, LIGHT
from pdm_jax.data.degradations.resizing import resize_matlab
from pdm_jax.errors import UserError
from tests.parity_kinds._bsr_replay import replay
from tests.parity_kinds._case import Case

INPUTS = ("image_uint8_hwc", "*_seed*")
_SCALES = {"quarter": 1 / 4, "third": 1 / 3, "half": 1 / 2, "double": 2.0, "triple": 3.0, "quadruple": 4.0}
_SETTINGS = {"light": LIGHT, "full": FULL}
_FAR = 8.0  # grey levels on average: last bits make up to 5, other random numbers 16 in the median


def run(case: Case) -> dict[str, np.ndarray]:
    """All of the case's outputs; what they are made with stands in their names."""
    _check_whole(case)
    image = operators.to_float(case.io["image_uint8_hwc"])
    out = {name: _gaussian(name) for name in case.wanted if name.startswith("fspecial_gaussian_")}
    # The reference does not say what it blurred with; its second Gaussian is what its numbers belong to.
    if "convolve_mirror" in case.wanted:
        out["convolve_mirror"] = operators.blur(image, list(out.values())[1])
    for name in case.wanted:
        kind, _, rest = name.rpartition("_")
        if name.startswith("anisotropic_"):
            size, *shape = name.split("_")[1:]
            out[name] = kernels.anisotropic(int(size), *map(float, shape))
        elif found := re.fullmatch(r"(shift_pixel_\d+_[\d.]+)_sf(\d+)", name):
            out[name] = kernels.shifted(_gaussian(found[1]), int(found[2]))
            out["shift_pixel_normalised"] = out[name] / out[name].sum()
        elif kind == "imresize" and rest in _SCALES:
            out[name] = resize_matlab(image, _SCALES[rest])
    return out


def _gaussian(name: str) -> np.ndarray:
    size, sigma = name.split("_")[-2:]
    return kernels.gaussian(int(size), float(sigma))


def _check_whole(case: Case) -> None:
    """Raises a `UserError` for a degraded image that is not nearly the program's."""
    for name, official in case.io.items():
        if found := re.fullmatch(r"(\w+)_seed(\d+)_lr_uint8", name):
            image = case.io["image_uint8_hwc"]
            got = replay(image, case.meta["scale"], _SETTINGS[found[1]], int(found[2]))
            distance = np.mean(np.abs(got - official.astype(float))) if got.shape == official.shape else np.inf
            if distance > _FAR:
                raise UserError(f"{name} is {distance:.1f} grey levels away on average; expected at most {_FAR}")
