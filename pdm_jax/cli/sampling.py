"""From the flags of sampling to a run's images."""

from __future__ import annotations

import argparse
import dataclasses
import logging
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from jax.sharding import Mesh

from pdm_jax.checkpoints import open_workdir
from pdm_jax.cli.guiding import Guidance, num_classes, open_guidance
from pdm_jax.cli.sampling_flags import SETTINGS, digest
from pdm_jax.cli.telling import conditions
from pdm_jax.config import Config, MeshConfig, SampleConfig, to_dict
from pdm_jax.diffusion import timesteps
from pdm_jax.errors import UserError
from pdm_jax.parallel import make_mesh
from pdm_jax.pipelines.codes import open_prior, sample_codes, table_codes
from pdm_jax.pipelines.generate import choose_labels, generate, make_generate, tell
from pdm_jax.pipelines.mirrored import side_multiple
from pdm_jax.pipelines.restore import Model, read_config, restore_model
from pdm_jax.pipelines.told import of_data
from pdm_jax.systems import System, make_system

logger = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Sampling:
    """A run's weights and how images are made of them."""

    model: Model
    sampling: SampleConfig
    about: dict[str, Any]  # what image i depends on besides i, as plain JSON
    mesh: Mesh
    prior: Model | None  # the latent prior, where the model takes codes and there is one
    guidance: Guidance  # by gradients
    _run: Any  # the jitted sampling loop
    _args: argparse.Namespace

    @property
    def config(self) -> Config:
        """Of the run."""
        return self.model.config

    @property
    def facts(self) -> dict[str, Any]:
        """What tables say of the weights and the sampler."""
        return {
            "config": digest(to_dict(self.config)),
            "step": self.model.step,
            "params": self._args.weights,
            "seed": self._args.seed,
            "sampler": self.sampling.sampler,
        }

    @property
    def num_steps(self) -> int:
        """Steps of the sampler."""
        return len(timesteps(self.sampling.steps, self.model.system.process.num_steps))

    def labels(self, num: int) -> np.ndarray | None:
        """The labels [num] that were asked for; None where there are no classes."""
        return choose_labels(self._args.labels, num, num_classes(self.model.system, self.guidance))

    def told(self, num: int) -> dict[str, np.ndarray]:
        """What the model is told of each of `num` images: labels; codes of the prior or of the training images;
        captions, layouts and the like as they were given, else as in the data."""
        system, codes = self.model.system, None
        if self.prior is not None:
            codes = sample_codes(self.prior, num, self._args.seed, self.mesh)
        elif system.table is not None:
            codes = table_codes(self.model, self.mesh)
            codes = codes[np.random.default_rng(self._args.seed).permutation(len(codes))]
        args, labels = self._args, self._args.labels if system.num_classes else "cycle"
        told = tell(system, labels, num, codes) | self.guidance.told(args.labels, num)
        return told | conditions(args, self.config, system, num)

    def images(self, num: int, first: int = 0, told: Mapping[str, np.ndarray] | None = None) -> Iterator[np.ndarray]:
        """Images `first` to num - 1 in batches (b, H, W, C) uint8; `told` is that of `told(num)`, if it is there."""
        told, batch_size = self.told(num) if told is None else told, self._args.batch_size
        return generate(
            self._run, self.model.params, self._args.seed, num, told, self.mesh, batch_size=batch_size, first=first
        )


def open_sampling(args: argparse.Namespace) -> Sampling:
    """Restores the weights that the flags name and makes the sampling loop.

    Raises:
      UserError: a flag is out of range or does not fit the model; there is no such checkpoint.
    """
    if args.batch_size < 1 or not 0 <= args.seed < 2**32:
        raise UserError("--batch-size must be at least 1, and --seed from 0 to 2**32 - 1")
    config, mesh = read_config(args.workdir, args.step), make_mesh(MeshConfig(space=args.space))
    settings = {name: getattr(args, name) for name in SETTINGS if getattr(args, name) is not None}
    sampling = dataclasses.replace(config.sample, **settings)
    config = _resized(dataclasses.replace(config, sample=sampling), args)
    system = make_system(config)
    if config.model.system == "code_prior":
        raise UserError(f"{args.workdir} is a prior of semantic codes; sample from the model it is for, with --prior")
    guidance = open_guidance(args, system, mesh)
    # What cannot run is refused before the model's weights are read.
    run = make_generate(system, sampling, mesh, guides=guidance.guides)
    choose_labels(args.labels, 1, num_classes(system, guidance))
    if args.max_patches is not None and config.model.system != "patch_dm":
        raise UserError(f"--max-patches is for models of patch_dm; {args.workdir} holds one of {config.model.system}")
    if (args.prompt or args.told) and not of_data(system):
        raise UserError(f"--prompt and --told are for models told of captions and the like; {args.workdir} holds none")
    prior = _prior(args, system, mesh)
    model = restore_model(args.workdir, system, config, mesh, weights=args.weights, step=args.step)
    model = guidance.with_params(model)
    about = {
        "step": model.step,
        "weights": args.weights,
        "checksums": dict(model.checksums),
        "labels": args.labels,
        "told": [args.prompt, args.told],
        "guides": guidance.about,
        "size": list(config.data.size),
        "prior": prior
        and {"checksums": dict(prior.checksums), "sample": dataclasses.asdict(prior.config.sample), "step": prior.step},
        "seed": args.seed,
        "sample": dataclasses.asdict(sampling),
        "model": dataclasses.asdict(config.model),
        "split": dataclasses.asdict(config.split),
        "diffusion": dataclasses.asdict(config.diffusion),
    }
    return Sampling(model, sampling, about, mesh, prior, guidance, run, args)


def _resized(config: Config, args: argparse.Namespace) -> Config:
    """The config at another size of images, which a convolutional network takes as well (LDM section 4.3.2)."""
    size = getattr(args, "size", None)
    if size is None:
        return config
    if config.model.system != "ldm":
        raise UserError(f"--size is for latent diffusion; {args.workdir} holds a model of {config.model.system}")
    resized = dataclasses.replace(config, data=dataclasses.replace(config.data, image_size=size))
    size, multiple = resized.data.size, side_multiple(config)
    if any(side % multiple for side in size):
        near = "x".join(str(max(1, round(side / multiple)) * multiple) for side in size)
        raise UserError(
            f"--size is {size[0]}x{size[1]} and this model makes sides that divide by {multiple}; the nearest is {near}"
        )
    return resized


def _prior(args: argparse.Namespace, system: System, mesh: Mesh) -> Model | None:
    """The latent prior: the one that was given, or that in the folder `prior` of the run if there is one."""
    if "code" not in system.told:
        if args.prior is not None:
            raise UserError(f"--prior is for models with semantic codes; {args.workdir} has none")
        return None
    own = open_workdir(args.workdir) / "prior"
    if args.prior is None and not (own / "checkpoints").is_dir():
        if system.table is None:
            raise UserError(f"{args.workdir} makes images of codes and has no latent prior; train one in {own}")
        logger.info("no latent prior in %s: images are made of the codes of training images", own)
        return None
    return open_prior(args.prior or str(own), *system.told["code"].shape, mesh, weights=args.weights)
