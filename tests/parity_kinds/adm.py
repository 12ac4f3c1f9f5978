"""guided-diffusion: its process (`adm/diffusion`) and its U-Net (`adm/unet_*`), told apart by their meta."""

from __future__ import annotations

from pdm_jax.errors import UserError
from pdm_jax.types import Array
from tests.parity_kinds import _adm_diffusion, _adm_unet
from tests.parity_kinds._case import Case

INPUTS = (*_adm_diffusion.INPUTS, *_adm_unet.INPUTS)


def run(case: Case) -> dict[str, Array]:
    """All of the case's outputs, in its layout (NCHW)."""
    if "schedules" in case.meta:
        return _adm_diffusion.run(case)
    if "state_dict" in case.meta:
        return _adm_unet.run(case)
    raise UserError(
        f"{case.folder} has neither `schedules` nor `state_dict` in its meta; the kind adm runs cases like "
        "adm/diffusion and adm/unet_plain"
    )
