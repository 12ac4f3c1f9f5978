"""From the flags of `pdm eval` to the reconstructions of a first stage's run."""

from __future__ import annotations

import argparse
import dataclasses
from typing import Any

from pdm_jax.cli.sampling_flags import SETTINGS, digest
from pdm_jax.config import Config, MeshConfig, to_dict
from pdm_jax.errors import UserError
from pdm_jax.evaluation.image_sets import ImageSet, as_trained
from pdm_jax.evaluation.reconstructions import Reconstructions
from pdm_jax.parallel import make_mesh
from pdm_jax.pipelines.restore import restore_model
from pdm_jax.systems import make_system


def open_reconstructions(
    args: argparse.Namespace, config: Config
) -> tuple[Reconstructions, dict[str, Any], dict[str, Any]]:
    """What a run's weights make of images, how an `ImageSet` reads these, and what tables say of the weights.

    They are read as the run read its data. Without `--num` they are `config.eval.num`, or all there are.

    Raises:
      UserError: a flag belongs to sampling; there is no such source or checkpoint.
    """
    for name in ("prior", *SETTINGS):
        if getattr(args, name) is not None:
            flag = name.replace("_", "-")
            raise UserError(f"--{flag} is of sampling; {args.workdir} holds a first stage, which reconstructs images")
    # Weights by which training measured likeness are not needed.
    config = dataclasses.replace(config, reconstruction=dataclasses.replace(config.reconstruction, perceptual=None))
    mesh, system = make_mesh(MeshConfig()), make_system(config)
    source = args.reference or config.eval.source or config.data.source
    settings = {"split": config.eval.split or config.data.split, **as_trained(config.data)}
    settings["num"] = args.num or min(config.eval.num, len(ImageSet(source, **settings)))
    originals = ImageSet(source, **settings)
    model = restore_model(args.workdir, system, config, mesh, weights=args.weights, step=args.step)
    facts = {"config": digest(to_dict(config)), "step": model.step, "params": args.weights, "images": args.workdir}
    return Reconstructions(originals, model), settings, facts
