"""Images for training and evaluation: sources, transforms, batches that can be left and resumed exactly."""

from pdm_jax.data.arrays import ArrayDataset as ArrayDataset
from pdm_jax.data.arrays import CodeDataset as CodeDataset
from pdm_jax.data.dataset import Batch as Batch
from pdm_jax.data.dataset import BatchIterator as BatchIterator
from pdm_jax.data.dataset import Dataset as Dataset
from pdm_jax.data.dataset import make_dataset as make_dataset
from pdm_jax.data.tasks import TaskInputs as TaskInputs
