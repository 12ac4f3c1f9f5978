"""What a run is: groups of settings, read strictly from the plain mapping that a config file makes.

Config files make an `ml_collections.ConfigDict`; it crosses into the package once, through `read`.
"""

from pdm_jax.config.groups import CheckpointConfig as CheckpointConfig
from pdm_jax.config.groups import CodeConfig as CodeConfig
from pdm_jax.config.groups import ConditionConfig as ConditionConfig
from pdm_jax.config.groups import Config as Config
from pdm_jax.config.groups import DataConfig as DataConfig
from pdm_jax.config.groups import DiffusionConfig as DiffusionConfig
from pdm_jax.config.groups import EmaConfig as EmaConfig
from pdm_jax.config.groups import EvalConfig as EvalConfig
from pdm_jax.config.groups import LatentConfig as LatentConfig
from pdm_jax.config.groups import LossConfig as LossConfig
from pdm_jax.config.groups import MeshConfig as MeshConfig
from pdm_jax.config.groups import ModelConfig as ModelConfig
from pdm_jax.config.groups import OptimizerConfig as OptimizerConfig
from pdm_jax.config.groups import ReconstructionConfig as ReconstructionConfig
from pdm_jax.config.groups import SampleConfig as SampleConfig
from pdm_jax.config.groups import SplitConfig as SplitConfig
from pdm_jax.config.groups import TrainConfig as TrainConfig
from pdm_jax.config.reading import convert as convert
from pdm_jax.config.reading import differences as differences
from pdm_jax.config.reading import read as read
from pdm_jax.config.reading import to_dict as to_dict
