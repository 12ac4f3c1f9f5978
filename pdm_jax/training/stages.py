"""What a run of latent diffusion needs before it begins: the run of its first stage, and a tokeniser."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Mapping

import jax
from etils import epath

from pdm_jax.checkpoints import locate, open_workdir
from pdm_jax.config import Config, read, to_dict
from pdm_jax.errors import UserError
from pdm_jax.pipelines.told import TOKENIZER
from pdm_jax.training.frozen import begun

logger = logging.getLogger(__name__)

_FOLDER = "first_stage"  # in the workdir
_OWN = ("data", "ema", "mesh", "seed", "checkpoint")  # groups that the first stage's run takes over


def stages_of(config: Config, workdir: str, init_from: str | None = None) -> list[tuple[Config, str]]:
    """The runs that a config asks for, in order, and their workdirs: with `config.latent.training` two, else one.

    A run that has begun, or that takes over another's weights, has its first stage already.

    Raises:
      UserError: the settings of the first stage's run are none, or it has another first stage already.
    """
    latent = config.latent
    if latent.training is None or config.model.system == "autoencoder":
        return [(config, workdir)]
    if init_from is not None or begun(workdir):
        return [(config, workdir)]
    if latent.first_stage is not None:
        raise UserError(
            "config.latent has first_stage, a workdir, and training, which makes one; leave out one of them"
        )
    if latent.kind == "none" or latent.network is None:
        raise UserError("config.latent.training needs config.latent.kind and network: what is to be trained")
    folder = str(open_workdir(workdir) / _FOLDER)
    values = to_dict(config)
    first = {name: values[name] for name in _OWN}
    first["model"] = {"system": "autoencoder", "network": {}}
    first |= {"loss": {}, "optimizer": values["optimizer"], "reconstruction": values["reconstruction"]}
    first["latent"] = {"kind": latent.kind, "network": latent.network, "dtype": latent.dtype}
    for group, settings in latent.training.items():
        if not isinstance(settings, Mapping):
            raise UserError(f"config.latent.training.{group} is {settings!r}; expected a group of settings")
        first[group] = {**first.get(group, {}), **settings}
    stage = read(Config, first, "config.latent.training")
    whole = dataclasses.replace(config, latent=dataclasses.replace(latent, first_stage=folder))
    return [(stage, folder), (whole, workdir)]


def with_tokenizer(config: Config, workdir: str, init_from: str | None = None) -> Config:
    """The config with the tokeniser of its captions, which is kept in the workdir: the one that is given, that of the
    run whose weights are taken over, or one trained on the captions.

    Raises:
      UserError: the given one cannot be read or has another number of tokens than the network; there are no captions.
    """
    condition = config.condition
    if "text" not in condition.kinds:
        return config
    from pdm_jax.data.tokenizer import load_tokenizer

    kept = open_workdir(workdir) / TOKENIZER
    if not kept.exists():
        _make_tokenizer(config, kept, init_from)
    settings = (condition.networks or {}).get("text", {})
    tokenizer = load_tokenizer(kept, vocab_size=settings.get("vocab_size"))
    given = condition.tokenizer
    if given is not None and load_tokenizer(given).vocabulary != tokenizer.vocabulary:
        raise UserError(
            f"{given} numbers its tokens otherwise than {kept}, which this run was begun with; leave "
            "config.condition.tokenizer out, or choose another --workdir"
        )
    return dataclasses.replace(config, condition=dataclasses.replace(condition, tokenizer=str(kept)))


def _make_tokenizer(config: Config, path: epath.Path, init_from: str | None) -> None:
    """Writes the tokeniser. Every host makes it, so that all fail if one does, and the first writes it."""
    from pdm_jax.data.opening import read_captions
    from pdm_jax.data.tokenizer import load_tokenizer, train_tokenizer

    settings = (config.condition.networks or {}).get("text", {})
    if "vocab_size" not in settings:
        raise UserError("config.condition.networks.text.vocab_size is missing; set the number of tokens")
    theirs = None if init_from is None else locate(init_from)[0] / TOKENIZER
    given = theirs if theirs is not None and theirs.exists() else config.condition.tokenizer
    if given is not None:
        tokenizer = load_tokenizer(given, vocab_size=settings["vocab_size"])
    else:
        tokenizer = train_tokenizer(read_captions(config.data), settings["vocab_size"])
        logger.info("a tokeniser of %d tokens was trained on the captions: %s", tokenizer.vocab_size, path)
    if jax.process_index() == 0:
        path.parent.mkdir(parents=True, exist_ok=True)
        tokenizer.save(path)
    if jax.process_count() > 1:
        from jax.experimental import multihost_utils

        multihost_utils.sync_global_devices("the tokeniser is there")
