"""Images/s of the input pipeline beside a plain decode loop on one core, and how long training waits for data.

  python benchmarks/input_pipeline.py [--data PATH] [--sizes 64 128 256] [--rounds 7] [--out input_pipeline.json]

The photographs of `--data`, any data source, are written to a temporary folder, a zip and an ArrayRecord file, gone
round if they are fewer than `--num`; images without a file, such as those of `builtin:photos`, become JPEGs of 500x375
and quality 90. `prepared` is an ArrayRecord file made at the size that is wanted (`pdm data build --size`). The plain
loop is what a straightforward program does: open, convert, resize the shorter side, cut the middle out, stack. It
and our transform run in one process that is pinned to one core. A pipeline is opened anew in each round, and what it
decoded ahead is thrown away before the clock starts, so that nothing else runs while one program is measured. Processes
are pinned and their times read as Linux has it.

Columns: `images/s` is wall time, `ratio` its quotient with the plain loop of the same round, `cpu ms` is the time of
one image on all cores together, which other work on the machine changes less, and `cpu ratio` the plain loop's to it:
times the number of workers, if as many cores are free, it is the ratio to expect. The last row is training on the
quickstart's config; its `ratio` is the part of the loop's time that is spent in `next(batches)`. The device works on
meanwhile, so that it waits for less than this.
"""

from __future__ import annotations

import argparse
import dataclasses
import io
import itertools
import multiprocessing
import os
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps
from report import Row, report, spread

from pdm_jax.cli.config_files import load_config
from pdm_jax.config import DataConfig, SplitConfig
from pdm_jax.data import Batch, BatchIterator, make_dataset
from pdm_jax.data.build import build_array_record
from pdm_jax.data.pipeline import GrainDataset
from pdm_jax.data.record import Record
from pdm_jax.data.sources import open_source
from pdm_jax.data.transforms import ImageTransform
from pdm_jax.training.loop import train

Speed = tuple[float, float]  # images/s, ms an image on all cores together

_QUICKSTART = Path(__file__).parents[1] / "configs" / "quickstart.py"
_PHOTO = (500, 375)
_BATCH = 16
_RNG = np.random.default_rng(0)  # draws nothing for a crop in the middle
_AHEAD = 6  # batches a worker, or the threads, may have decoded ahead; they are not counted


def main() -> None:
    """Measures, prints and writes."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", default="builtin:photos", help="where the photographs come from")
    parser.add_argument("--num", type=int, default=2000, help="how many files to make of them")
    parser.add_argument("--sizes", type=int, nargs="+", default=[64, 128, 256])
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--batches", type=int, default=48, help=f"of {_BATCH} images, in each measurement")
    parser.add_argument("--steps", type=int, default=40, help="of training")
    parser.add_argument("--out", metavar="FILE.json", help="also write the rows there")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        sources = write_sources(args.data, args.num, Path(folder))
        with OneCore(Path(folder) / "images") as core:
            rows = [row for size in args.sizes for row in size_rows(size, sources, core, args)]
        rows.append(training_row(args.steps, Path(folder) / "run"))
    report("input_pipeline", rows, args.out)


def write_sources(spec: str, num: int, folder: Path) -> dict[str, str]:
    """Writes `num` photographs as a folder, a zip and an ArrayRecord file; returns the data source of each."""
    source, images = open_source(spec), folder / "images"
    images.mkdir()
    files = itertools.cycle(filter(None, (_file(source[index]) for index in range(len(source)))))
    for number, data in enumerate(itertools.islice(files, num)):
        (images / f"{number:05}.jpg").write_bytes(data)
    with zipfile.ZipFile(folder / "images.zip", "w") as archive:
        for path in sorted(images.iterdir()):
            archive.write(path, path.name)
    build_array_record(open_source(f"folder:{images}"), folder / "images.array_record")
    sizes = [path.stat().st_size for path in images.iterdir()]
    print(f"{len(sizes)} files of {np.mean(sizes) / 1000:.0f} kB in the mean")
    return {
        "folder": f"folder:{images}",
        "zip": f"zip:{folder / 'images.zip'}",
        "arrayrecord": f"arrayrecord:{folder / 'images.array_record'}",
    }


def prepared(size: int, source: str) -> str:
    """The photographs as one file at the size that is wanted, as `pdm data build --size` makes it."""
    path = Path(source.partition(":")[2]).with_name(f"prepared-{size}.array_record")
    build_array_record(open_source(source), path, size=size)
    return f"arrayrecord:{path}"


def _file(record: Record) -> bytes | None:
    """The file of a photograph; None where its pixels are too few to fill one."""
    if isinstance(record.image, bytes):
        return record.image
    if min(record.image.shape[:2]) < min(_PHOTO):
        return None
    file = io.BytesIO()
    ImageOps.fit(Image.fromarray(record.image), _PHOTO, Image.Resampling.BICUBIC).save(file, "jpeg", quality=90)
    return file.getvalue()


class OneCore:
    """A process pinned to one core that decodes photographs one after the other."""

    def __init__(self, images: Path):
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, images), daemon=True)
        self._process.start()

    def __enter__(self) -> OneCore:
        return self

    def __exit__(self, *error: object) -> None:
        self._connection.send(None)
        self._process.join()

    def measure(self, program: str, size: int, count: int) -> Speed:
        """The speed of `program`, a name in `_PROGRAMS`, over `count` images."""
        self._connection.send((program, size, count))
        return self._connection.recv()


def _serve(connection: Connection, images: Path) -> None:
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    paths = itertools.cycle(sorted(images.iterdir()))
    while (request := connection.recv()) is not None:
        program, size, count = request
        start, cpu_start = time.perf_counter(), time.process_time()
        for _ in range(0, count, _BATCH):
            np.stack([_PROGRAMS[program](path, size) for path in itertools.islice(paths, _BATCH)])
        cpu, wall = time.process_time() - cpu_start, time.perf_counter() - start
        connection.send((count / wall, 1000 * cpu / count))


def _plain(path: Path, size: int) -> np.ndarray:
    """One photograph (size, size, 3), as it is written without a second thought."""
    image = Image.open(path).convert("RGB")
    scale = size / min(image.size)
    image = image.resize((round(scale * image.width), round(scale * image.height)), Image.Resampling.BICUBIC)
    left, top = (image.width - size) // 2, (image.height - size) // 2
    return np.asarray(image.crop((left, top, left + size, top + size)))


def _ours(path: Path, size: int) -> np.ndarray:
    """The same by our transform."""
    return ImageTransform(size, channels=3, reduced=True)(Record(path.read_bytes(), 0, path.name), _RNG)


_PROGRAMS: dict[str, Callable[[Path, int], np.ndarray]] = {"plain loop": _plain, "our transform, one core": _ours}


def size_rows(size: int, sources: dict[str, str], core: OneCore, args: argparse.Namespace) -> Iterator[Row]:
    """Interleaved measurements of all programs at one image size."""
    sources = sources | {"prepared": prepared(size, sources["arrayrecord"])}
    measured: dict[str, list[Speed]] = {}
    for _ in range(args.rounds):
        for program in _PROGRAMS:
            measured.setdefault(program, []).append(core.measure(program, size, args.batches * _BATCH))
        for source, workers in itertools.product(sources, args.workers):
            config = DataConfig(sources[source], size, _BATCH, num_workers=workers)
            measured.setdefault(f"{source}, {workers} workers", []).append(pipeline_speed(config, args.batches))
    plain, plain_cpu = np.transpose(measured["plain loop"])
    for program, samples in measured.items():
        speeds, cpu = np.transpose(samples)
        yield {
            "size": size,
            "program": program,
            "images/s": spread(speeds),
            "ratio": spread(speeds / plain),
            "cpu ms": spread(cpu),
            "cpu ratio": spread(plain_cpu / cpu),
        }


def pipeline_speed(config: DataConfig, batches: int) -> Speed:
    """The speed of a data set whose batches are taken as fast as they come."""
    iterator = iter(make_dataset(config, seed=0))
    for _ in range(_AHEAD * max(1, config.num_workers)):
        next(iterator)
    start, cpu_start = time.perf_counter(), _cpu_seconds()
    for _ in range(batches):
        next(iterator)
    seconds, cpu_seconds = time.perf_counter() - start, _cpu_seconds() - cpu_start
    iterator.close()
    images = batches * config.batch_size
    return images / seconds, 1000 * cpu_seconds / images


def _cpu_seconds() -> float:
    """Time on all cores of this process and of those it has started."""
    stats = [Path(f"/proc/{child.pid}/stat").read_text() for child in multiprocessing.active_children()]
    ticks = sum(int(time) for stat in stats for time in stat.rpartition(")")[2].split()[11:13])  # user, system
    return time.process_time() + ticks / os.sysconf("SC_CLK_TCK")


def training_row(steps: int, workdir: Path) -> Row:
    """The real loop on the quickstart's first network: images/s, and what part of its time it waits for data."""
    changes = ("sample.steps=1", "train.grid_size=1", f"train.num_steps={steps}")  # the last step draws a grid
    config = load_config(str(_QUICKSTART), [f"--config.{change}" for change in changes])
    config = dataclasses.replace(config, split=SplitConfig())
    dataset = TimedDataset(config.data, config.seed)
    train(config, workdir, dataset)
    waits = np.array(dataset.iterator.waits[2:])  # (steps, 2) from, to; the first step compiles
    seconds = waits[-1, 1] - waits[0, 1]
    return {
        "size": config.data.image_size,
        "program": "training waits in next(batches)",
        "images/s": (len(waits) - 1) * config.data.batch_size / seconds,
        "ratio": float(np.diff(waits[1:]).sum() / seconds),
        "cpu ms": None,
        "cpu ratio": None,
    }


class TimedDataset(GrainDataset):
    """A data set whose iterator keeps the time that is spent in it."""

    def __iter__(self) -> TimedIterator:
        self.iterator = TimedIterator(self)
        return self.iterator


class TimedIterator(BatchIterator):
    """`waits` are (start, end) of each `next`, in seconds."""

    def __init__(self, dataset: TimedDataset):
        super().__init__(dataset)
        self.waits: list[tuple[float, float]] = []

    def __next__(self) -> Batch:
        start = time.perf_counter()
        batch = super().__next__()
        self.waits.append((start, time.perf_counter()))
        return batch


if __name__ == "__main__":
    main()
