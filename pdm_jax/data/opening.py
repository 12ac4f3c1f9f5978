"""From a config to a data set: its source is opened, what the run needs of it is checked, and readers are set up."""

from __future__ import annotations

from collections.abc import Iterator

from pdm_jax.config import DataConfig
from pdm_jax.data.pipeline import GrainDataset
from pdm_jax.data.readers import ImageReader, LatentReader, TaskReader
from pdm_jax.data.record import Source, require
from pdm_jax.data.sources import open_source
from pdm_jax.data.sources.latents import LatentSource
from pdm_jax.data.tasks import TaskInputs
from pdm_jax.data.transforms import CROPS, ImageTransform
from pdm_jax.errors import UserError

_LATENTS = "latents:"


def open_images(config: DataConfig, seed: int, inputs: TaskInputs, **process: int) -> GrainDataset:
    """The images of a config and what belongs to them; arguments and errors as in `make_dataset`."""
    _check(config)
    source = open_source(config.source, config.split, inputs.fields)
    _check_records(source, config.source, inputs)
    still = "stretch" if config.crop == "stretch" else "center"
    training = ImageTransform(config.size, config.channels, config.crop, config.min_crop, config.flip, reduced=True)
    return GrainDataset(
        source,
        config,
        seed,
        ImageReader(training, TaskReader(inputs, source)),
        ImageReader(
            ImageTransform(config.size, config.channels, still), TaskReader(inputs, source, first_caption=True)
        ),
        **process,
    )


def open_latents(config: DataConfig, seed: int, inputs: TaskInputs, **process: int) -> GrainDataset:
    """Encoded images, "latents:PATTERN", and what belongs to them; arguments and errors as in `make_dataset`."""
    _check(config)
    if inputs.of_pixels:
        raise UserError(
            f"config.condition.kinds has {inputs.of_pixels[0]!r}, which needs images; {config.source} has none"
        )
    source = LatentSource(config.source.removeprefix(_LATENTS))
    source.check(config)
    _check_records(source, config.source, inputs)
    dataset = GrainDataset(
        source,
        config,
        seed,
        LatentReader(source, TaskReader(inputs, source), config.flip),
        LatentReader(source, TaskReader(inputs, source, first_caption=True), flip=False),
        **process,
    )
    dataset.first_stage = source.header["first_stage"]
    return dataset


def read_captions(config: DataConfig) -> Iterator[str]:
    """All captions of a data set, image after image, to train a tokeniser on.

    Raises:
      UserError: the source cannot be opened, or images have no captions.
    """
    if config.source.startswith(_LATENTS):
        source = LatentSource(config.source.removeprefix(_LATENTS))
    else:
        source = open_source(config.source, config.split, ("captions",))
    require(source, ("captions",), config.source)
    return (caption for index in range(len(source)) for caption in source[index].captions)


def _check_records(source: Source, name: str, inputs: TaskInputs) -> None:
    """Refuses records that have not what tasks need."""
    require(source, inputs.fields, name)
    if "class" in inputs.kinds and not source.class_names:
        raise UserError(f"{name} has no classes; put the images of each class in a folder of its own")


def _check(config: DataConfig) -> None:
    """Refuses values that no data set can have."""
    for name, least in (("image_size", min(config.size)), ("batch_size", config.batch_size)):
        if least < 1:
            raise UserError(f"config.data.{name} is {getattr(config, name)}; expected at least 1")
    if config.num_workers < 0:
        raise UserError(f"config.data.num_workers is {config.num_workers}; expected 0 (threads) or more processes")
    if config.channels not in (1, 3):
        raise UserError(f"config.data.channels is {config.channels}; expected 3 (RGB) or 1 (grey)")
    if config.crop not in CROPS:
        raise UserError(f"config.data.crop is {config.crop!r}; expected one of {', '.join(CROPS)}")
    if not 0 < config.min_crop <= 1:
        raise UserError(f"config.data.min_crop is {config.min_crop}; expected a part of the shorter side in (0, 1]")
