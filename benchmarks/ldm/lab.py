"""What the parts share: images, the runs that are trained on them, and the features by which samples are judged."""

from __future__ import annotations

import dataclasses
import functools
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import jax
import numpy as np
from patch_dm.training import Photographs, read_photographs
from tqdm import tqdm

from ldm.scales import Scale, stage_config
from pdm_jax.config import Config, MeshConfig, SampleConfig
from pdm_jax.data import ArrayDataset
from pdm_jax.evaluation import local_features
from pdm_jax.evaluation.extraction import Extractor
from pdm_jax.evaluation.frechet import distance_to
from pdm_jax.evaluation.statistics import Statistics
from pdm_jax.evaluation.summary import Summary, Wanted, summarize
from pdm_jax.ops.images import to_uint8
from pdm_jax.parallel import make_mesh
from pdm_jax.pipelines.generate import Generate, generate, make_generate
from pdm_jax.pipelines.restore import Model, read_config, restore_model
from pdm_jax.systems import make_system
from pdm_jax.training import train

SEED = 0
_BATCH = 32  # images sampled, reconstructed or judged at a time


class Lab:
    """A folder of runs, which are trained when they are first asked for and gone on with after an interruption."""

    def __init__(self, source: str, scale: Scale, folder: Path):
        """`source` is read when a part first needs images."""
        self.scale, self.folder, self.mesh = scale, folder, make_mesh(MeshConfig())
        self.title = f"{source.rpartition('/')[2]}, {scale.image_size}x{scale.image_size}"
        self._source = source
        self._drawers: dict[tuple, Generate] = {}

    @functools.cached_property
    def _photographs(self) -> Photographs:
        scale = self.scale
        return read_photographs(self._source, scale.image_size, scale.num_images, scale.num_samples)

    @property
    def images(self) -> np.ndarray:
        """(N, S, S, 3) uint8, the training set; raises `UserError` where there is too little."""
        return self._photographs.train

    @property
    def held_out(self) -> np.ndarray:
        """(M, S, S, 3) uint8, never trained on."""
        return self._photographs.held_out

    def model(self, name: str, config: Config, *, step: int | None = None, masks: np.ndarray | None = None) -> Model:
        """The averaged weights of a run of this name after its training, or as they were at an earlier step.

        Args:
          masks: (N, S, S, 1) uint8, of the images to train on, where the model fills holes.
        """
        inputs = None if masks is None else {"mask": masks}
        data = ArrayDataset(self.images, None, config.data.batch_size, SEED, inputs=inputs)
        train(config, self.folder / name, data)
        config = read_config(self.folder / name)
        own = None if step is None else str(step)
        return restore_model(self.folder / name, make_system(config), config, self.mesh, step=own)

    def latent_model(self, name: str, config: Config, factor: int, **arguments) -> Model:
        """As `model`, with the first stage of this f trained before, if there is one."""
        if factor > 1:
            self.stage(factor)
            latent = dataclasses.replace(config.latent, first_stage=str(self.folder / f"first_stage_f{factor}"))
            config = dataclasses.replace(config, latent=latent)
        return self.model(name, config, **arguments)

    @functools.cache  # noqa: B019 a lab lives as long as its process
    def stage(self, factor: int) -> Model:
        """The first stage of this f."""
        return self.model(f"first_stage_f{factor}", stage_config(self.scale, factor))

    def reconstructed(self, factor: int, images: np.ndarray) -> np.ndarray:
        """Images (N, S, S, 3) uint8 as the first stage draws them; of f = 1 the images themselves."""
        if factor == 1:
            return images
        model = self.stage(factor)
        run = jax.jit(lambda params, x: to_uint8(model.system.reconstruct(params, x)))
        batches = np.split(images, range(_BATCH, len(images), _BATCH))
        return np.concatenate([np.asarray(run(model.params, batch)) for batch in batches])

    def draw(
        self,
        model: Model,
        steps: int,
        num: int,
        *,
        size: int | None = None,
        told: Mapping[str, np.ndarray] | None = None,
    ) -> tuple[np.ndarray, float]:
        """Samples (num, S, S, 3) uint8 by so many steps of DDIM, and samples/s.

        Args:
          size: S, if not the trained one: the networks are applied as convolutions.
          told: of each sample, where the model fills holes.

        Returns:
          The samples, and the speed of the median batch after the first, which compiles (of the only one, if so).
        """
        run, batch_size = self._drawer(model.config, steps, size), min(num, _BATCH)
        samples, done = [], [time.perf_counter()]
        for batch in generate(run, model.params, SEED, num, told or {}, self.mesh, batch_size=batch_size):
            samples.append(batch)
            done.append(time.perf_counter())
        times = np.diff(done)
        return np.concatenate(samples), batch_size / float(np.median(times[1:] if len(times) > 1 else times))

    def _drawer(self, config: Config, steps: int, size: int | None) -> Generate:
        """The compiled sampling of a config, at another size of images if one is given."""
        key = repr(config), steps, size
        if key not in self._drawers:
            if size is not None:
                config = dataclasses.replace(config, data=dataclasses.replace(config.data, image_size=size))
            self._drawers[key] = make_generate(make_system(config), sampling(steps), self.mesh)
        return self._drawers[key]

    def distance(self, images: np.ndarray) -> float:
        """The Fréchet distance of images (M, S, S, 3) uint8 to the training set in local features."""
        return self._to_images(self._summary(images).statistics(self._output))

    def features(self, images: np.ndarray) -> np.ndarray:
        """Local features (N, D) of images (N, S, S, 3) uint8."""
        return self._summary(images).features

    @functools.cached_property
    def network(self) -> local_features.LocalNetwork:
        """The feature network, which learns from the training set and is kept in the folder."""
        path = self.folder / "features.safetensors"
        if path.exists():
            return local_features.load(path)
        data = ArrayDataset(self.images, None, min(_BATCH, len(self.images)), SEED)
        network = local_features.train_local(data, SEED, lambda i: tqdm(i, "features"))
        local_features.save(path, network)
        return network

    @functools.cached_property
    def _extractor(self) -> Extractor:
        return Extractor(self.network, _BATCH)

    @property
    def _output(self) -> str:
        return next(iter(self.network.outputs))

    @functools.cached_property
    def _to_images(self) -> Callable[[Statistics], float]:
        return distance_to(self._summary(self.images).statistics(self._output))

    def _summary(self, images: np.ndarray) -> Summary:
        batches = ArrayDataset(images, None, min(_BATCH, len(images)), SEED).once()
        return summarize(self._extractor, batches, len(images), Wanted(statistics=(self._output,), features=True))


def sampling(steps: int) -> SampleConfig:
    """How all samples are made."""
    return SampleConfig(sampler="ddim", steps=str(steps))
