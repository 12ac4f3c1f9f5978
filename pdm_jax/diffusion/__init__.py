"""The diffusion process: schedules, conversions, losses, samplers and likelihood. No networks."""

from pdm_jax.diffusion.likelihood import bits_per_dim as bits_per_dim
from pdm_jax.diffusion.losses import l1_loss as l1_loss
from pdm_jax.diffusion.losses import mse_loss as mse_loss
from pdm_jax.diffusion.losses import sqrt_snr_loss as sqrt_snr_loss
from pdm_jax.diffusion.losses import vlb_loss as vlb_loss
from pdm_jax.diffusion.parameterization import from_adm as from_adm
from pdm_jax.diffusion.parameterization import from_pdm as from_pdm
from pdm_jax.diffusion.parameterization import to_prediction as to_prediction
from pdm_jax.diffusion.parameterization import v_from_x0_eps as v_from_x0_eps
from pdm_jax.diffusion.parameterization import x0_from_eps as x0_from_eps
from pdm_jax.diffusion.plms import plms as plms
from pdm_jax.diffusion.process import Process as Process
from pdm_jax.diffusion.process import make_process as make_process
from pdm_jax.diffusion.samplers import ancestral as ancestral
from pdm_jax.diffusion.samplers import ddim as ddim
from pdm_jax.diffusion.samplers import ddim_inverse as ddim_inverse
from pdm_jax.diffusion.sampling import Samples as Samples
from pdm_jax.diffusion.sampling import sample as sample
from pdm_jax.diffusion.strides import timesteps as timesteps
