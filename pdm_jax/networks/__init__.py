"""Networks as `flax.nnx` modules: arrays in, arrays out; no diffusion, no data, no mesh."""

from pdm_jax.networks.adm_unet import ADMUNet as ADMUNet
from pdm_jax.networks.autoencoder import Autoencoder as Autoencoder
from pdm_jax.networks.classifier import LatentClassifier as LatentClassifier
from pdm_jax.networks.code_encoder import CodeEncoder as CodeEncoder
from pdm_jax.networks.code_mlp import CodeMLP as CodeMLP
from pdm_jax.networks.functional import count_params as count_params
from pdm_jax.networks.functional import define as define
from pdm_jax.networks.ldm_unet import LDMUNet as LDMUNet
from pdm_jax.networks.patch_critic import PatchCritic as PatchCritic
from pdm_jax.networks.patch_unet import PatchUNet as PatchUNet
from pdm_jax.networks.pdm_unet import PDMUNet as PDMUNet
from pdm_jax.networks.spatial_rescaler import SpatialRescaler as SpatialRescaler
from pdm_jax.networks.token_encoder import ClassEmbedder as ClassEmbedder
from pdm_jax.networks.token_encoder import TokenEncoder as TokenEncoder
from pdm_jax.networks.vit import ViT as ViT
