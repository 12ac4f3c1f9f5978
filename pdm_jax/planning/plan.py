"""What a config costs on slices of TPUs: one report a program and slice."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from pdm_jax.config import CheckpointConfig, Config, DataConfig, EvalConfig, OptimizerConfig, SampleConfig, TrainConfig
from pdm_jax.errors import UserError
from pdm_jax.planning.advice import Use, advise, use_of
from pdm_jax.planning.batches import LargestBatch, largest_batch, predicted
from pdm_jax.planning.depth import blocks_of, extrapolated, with_blocks
from pdm_jax.planning.measured import Measured, measure, require_libtpu
from pdm_jax.planning.roofline import Bound, bound_of
from pdm_jax.planning.slices import Slice
from pdm_jax.systems import parts_of


@dataclasses.dataclass(frozen=True)
class Report:
    """One program on one slice."""

    parts: tuple[str, ...]  # of a split model, those that cost the same; ("",) of others and in sampling
    kind: str  # train | sample
    where: Slice
    measured: Measured | None = None  # None where there is a problem
    bound: Bound | None = None
    largest: LargestBatch | None = None
    advice: tuple[Use, ...] = ()  # where it does not fit
    is_estimate: bool = False  # quick
    problem: str = ""  # why nothing was measured

    @property
    def images_per_second(self) -> float | None:
        """At most."""
        return None if self.bound is None else self.measured.batch_size / self.bound.seconds


def plan(
    config: Config,
    slices: Sequence[Slice],
    *,
    sample: int | None = None,
    part: str | None = None,
    quick: bool = False,
    find_largest: bool = True,
) -> list[Report]:
    """Compiles what the config trains, or samples, for each slice.

    Args:
      config: of a run.
      slices: from `find_slices`.
      sample: plans the sampling loop of the whole model with so many images at once, or as many more as the devices
        need; None plans the training step of each part.
      part: of a split model, the training of this one alone.
      quick: compiles one and two blocks a level and extrapolates.
      find_largest: also finds the largest batch that fits, at two to four more compilations (none if quick).

    Raises:
      UserError: libtpu is missing, there is no such part, or the config fits none of the slices.
    """
    require_libtpu()
    if sample is None:
        jobs = [_Job(names, "train", own, quick) for own, names in _different_parts(config, part)]
    else:
        jobs = [_Job(("",), "sample", _canonical(_with_batch(config, sample)), quick)]
    reports = [_report(job, where, find_largest) for job in jobs for where in slices]
    if all(report.problem for report in reports):
        raise UserError(reports[0].problem)
    return reports


@dataclasses.dataclass(frozen=True)
class _Job:
    """A program of a config, and how it is measured."""

    parts: tuple[str, ...]
    kind: str
    config: Config
    quick: bool

    def blocks(self) -> int | None:
        """To how many blocks a level it is extrapolated; None if it is compiled as it is."""
        blocks = blocks_of(self.config) if self.quick else None
        return blocks if blocks is not None and blocks > 2 else None

    def measure(self, where: Slice, batch_size: int) -> Measured:
        """Of the batch, on the slice."""
        config, blocks = _with_batch(self.config, batch_size), self.blocks()
        if blocks is None:
            return measure(self.kind, config, where, quick=self.quick)
        with ThreadPoolExecutor(2) as pool:  # each waits for a process of its own
            compiled = [pool.submit(measure, self.kind, with_blocks(config, n), where, quick=True) for n in (1, 2)]
        return extrapolated(*(each.result() for each in compiled), blocks, where.memory)


def _with_batch(config: Config, batch_size: int) -> Config:
    """The config with another batch."""
    return dataclasses.replace(config, data=dataclasses.replace(config.data, batch_size=batch_size))


def _report(job: _Job, where: Slice, find_largest: bool) -> Report:
    report = Report(job.parts, job.kind, where, is_estimate=job.quick)
    try:
        measured = job.measure(where, job.config.data.batch_size)
    except UserError as error:
        return dataclasses.replace(report, problem=str(error))
    memory = measured.available_bytes or where.memory
    return dataclasses.replace(
        report,
        measured=measured,
        bound=bound_of(measured, where),
        largest=_largest(job, where, measured) if find_largest else None,
        advice=() if measured.fits else tuple(advise(job.kind, job.config, measured, memory)),
    )


def _largest(job: _Job, where: Slice, measured: Measured) -> LargestBatch:
    unit = measured.mesh["data"] * measured.mesh["fsdp"]
    if job.kind == "train":
        unit *= job.config.optimizer.accumulation
    if job.quick:
        use = use_of(job.kind, measured)
        points = {0: use.state + use.gradients, measured.batch_size: measured.peak_bytes}
        return LargestBatch(predicted(points, where.memory, unit), "estimate")
    return largest_batch(functools.partial(job.measure, where), measured.batch_size, unit, where.memory)


def _different_parts(config: Config, part: str | None) -> list[tuple[Config, tuple[str, ...]]]:
    """The parts that are planned, as configs and names; those whose steps do the same work are one."""
    parts = parts_of(config)
    chosen = [each for each in parts if part in (None, each.name)]
    if not chosen:
        names = ", ".join(each.name for each in parts if each.name)
        raise UserError(f"this model has no part {part!r}; " + (f"it has {names}" if names else "it is not split"))
    found: list[tuple[Config, tuple[str, ...]]] = []
    for each in chosen:
        own = dataclasses.replace(_canonical(each.config), sample=SampleConfig())
        same = [i for i, (other, _) in enumerate(found) if other == own]
        if same:
            found[same[0]] = (own, (*found[same[0]][1], each.name))
        else:
            found.append((own, (each.name,)))
    return found


def _canonical(config: Config) -> Config:
    """The config without what changes no cost: rates, ranges of steps, lengths and names."""
    data = DataConfig(
        "latents:" if config.data.source.startswith("latents:") else "none",  # without encoding, or with it
        image_size=config.data.image_size,
        batch_size=config.data.batch_size,
        channels=config.data.channels,
    )
    own = config.optimizer
    optimizer = OptimizerConfig(
        warmup_steps=min(own.warmup_steps, 1),
        weight_decay=own.weight_decay,
        clip_norm=own.clip_norm,
        accumulation=own.accumulation,
    )
    return dataclasses.replace(
        config,
        data=data,
        loss=dataclasses.replace(config.loss, t_min=0, t_max=config.diffusion.num_steps),
        optimizer=optimizer,
        train=TrainConfig(),
        checkpoint=CheckpointConfig(),
        eval=EvalConfig(),
        seed=0,
    )
