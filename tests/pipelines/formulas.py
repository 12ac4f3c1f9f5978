"""Systems whose networks are formulas, so that what a pipeline makes of them can be computed."""

from pdm_jax.config import DiffusionConfig
from pdm_jax.diffusion import make_process, to_prediction
from pdm_jax.systems import System
from pdm_jax.systems.space import Space
from pdm_jax.types import Cond

PROCESS = make_process(DiffusionConfig())


def system(x0_hat, *, shape=(8, 8, 1), variance=None) -> System:
    """An unconditional model that predicts `x0_hat(z_t, t)`, and perhaps the variance fraction `variance(z_t)`."""

    def denoise(z_t, step, cond):
        fraction = None if variance is None else variance(z_t)
        return to_prediction(x0_hat(z_t, step.t), "x0", z_t, step.t, PROCESS, fraction)

    return System(
        init=lambda key: {},
        shapes={},
        losses={},
        denoiser=lambda params: denoise,
        null=lambda params, cond: cond,
        has_null=False,
        guides="x0",
        dropouts=(),
        process=PROCESS,
        space=Space(shape),
        num_classes=0,
        inputs={},
        told={},
        cond=lambda params, told, shape: Cond(),
    )
