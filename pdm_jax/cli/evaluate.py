"""`pdm eval`: how good the images of a run, or of any program, are."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pdm_jax.cli.running import add_running_arguments, start
from pdm_jax.cli.sampling_flags import add_sampling_arguments, digest, refuse_sampling_arguments
from pdm_jax.cli.sizes import image_size
from pdm_jax.errors import UserError

if TYPE_CHECKING:
    from pdm_jax.config import Config
    from pdm_jax.evaluation.demand import Demand

_METRICS = "fid,precision,recall"


def add_parser(subparsers) -> None:
    """Registers the command."""
    parser = subparsers.add_parser(
        "eval",
        help="score images: FID, sFID, IS, KID, precision, recall, CLIP, PSNR, SSIM, LPIPS",
        description="Makes images of a run and scores them, or scores any images. Images of a run are kept in "
        "--out and gone on with after a kill; a first stage reconstructs images, which are compared with their "
        "originals. Results are printed, written as JSON and added to results.csv.",
    )
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--workdir", metavar="DIR", help="folder of a run, whose images are made and scored")
    what.add_argument("--images", metavar="A", help="images of any program: a folder, .zip, .npz or any data source")
    parser.add_argument("--reference", metavar="B", help="real images, or statistics of them (default: the run's data)")
    parser.add_argument(
        "--metrics",
        default=_METRICS,
        help="of fid, sfid, is, kid, precision, recall, density, coverage; in pairs psnr, ssim, psnr_y, ssim_y, lpips, "
        f"rfid, ris; clip; seams of patches (default: {_METRICS})",
    )
    parser.add_argument("--num", type=int, help="how many images (default: the run's config.eval.num; all of A)")
    parser.add_argument(
        "--size", type=image_size, help="crop and resize images of A and B to this side or HEIGHTxWIDTH"
    )
    parser.add_argument("--features", default="local", help="local, inception:FILE or vgg16:FILE (default: local)")
    parser.add_argument(
        "--resize", default="clean", help="how Inception gets its images: clean, tensorflow or pytorch (default: clean)"
    )
    parser.add_argument("--perceptual", default="local", help="for lpips: local, or alex|vgg:BACKBONE,HEADS")
    parser.add_argument("--clip-model", metavar="DIR", help="for clip: a folder as Hugging Face publishes CLIP")
    parser.add_argument("--prompts", metavar="FILE", help="for clip: one line an image")
    parser.add_argument(
        "--seam-period", type=int, metavar="P", help="for seams: side of the patches in pixels (default: the run's)"
    )
    parser.add_argument(
        "--nll", action="store_true", help="instead: bits a dimension of real images under the run's model"
    )
    parser.add_argument("--confidence", action="store_true", help="95%% interval of FID and sFID")
    parser.add_argument("--extrapolate", action="store_true", help="FID and sFID at infinitely many images")
    parser.add_argument("--manifold-num", type=int, default=10_000, help="real images of precision, recall and KID")
    parser.add_argument("--out", metavar="DIR", help="folder of results (default: eval in the workdir, or here)")
    parser.add_argument("--cache", metavar="DIR", help="what is computed once (default: $PDM_CACHE, ~/.cache/pdm_jax)")
    add_sampling_arguments(parser)
    add_running_arguments(parser)
    parser.set_defaults(run=run)


@dataclasses.dataclass(frozen=True)
class _Sides:
    """What is compared with what."""

    num: int
    open_images: Callable[[], Any]  # the ImageSet that is judged; may take hours
    reference: str | None
    settings: Mapping[str, Any]  # how reference images are read
    out: Path
    facts: dict[str, Any]  # of the images, for the results
    size: tuple[int, int]  # of the images, (height, width)
    patch_size: int | None = None  # of the network, in pixels; None where there is none or several


def run(args: argparse.Namespace) -> int:
    """Evaluates; returns the exit status."""
    start(args)
    import jax

    from pdm_jax.evaluation.demand import Demand
    from pdm_jax.evaluation.evaluate import evaluate, open_reference
    from pdm_jax.evaluation.judges import local_network, open_judges
    from pdm_jax.evaluation.results import write_results

    _check_counts(args)
    if args.nll:
        return _run_nll(args)
    begin, cache = time.perf_counter(), _cache(args.cache)
    demand = Demand(
        tuple(args.metrics.split(",")),
        confidence=args.confidence,
        extrapolate=args.extrapolate,
        manifold_num=args.manifold_num,
    )
    sides = _of_run(args) if args.workdir else _of_any(args)
    demand = _with_seam_period(demand, args.seam_period, sides)
    real, statistics = open_reference(sides.reference, **sides.settings)
    demand.check_num(sides.num, None if real is None else len(real))

    def make_local():
        if real is None:
            raise UserError("local features are trained on real images; give --reference with images, or --features")
        return local_network(real.dataset(), {"images": real.revision}, cache, _training_bar)

    judges = open_judges(
        demand,
        features=args.features,
        resize=args.resize,
        perceptual=args.perceptual,
        clip=args.clip_model,
        make_local=make_local,
    )
    prompts = None if args.prompts is None else _lines(args.prompts)
    if judges.clip is not None and len(prompts or ()) != sides.num:
        raise UserError(f"clip needs a prompt an image: --prompts has {len(prompts or ())} for {sides.num} images")
    scores, found = evaluate(
        demand,
        judges,
        sides.open_images,
        real,
        statistics=statistics,
        prompts=prompts,
        batch_size=args.batch_size,
        cache=cache,
        bar=_bar,
    )
    seconds = round(time.perf_counter() - begin, 1)
    if jax.process_index() == 0:
        facts = {**sides.facts, "reference": sides.reference, **found, "seconds": seconds}
        path = write_results(sides.out, facts, scores)
        _show(scores, facts, path)
    return 0


def _check_counts(args: argparse.Namespace) -> None:
    for name in ("num", "manifold_num", "batch_size"):
        value = getattr(args, name)
        if value is not None and value < 1:
            raise UserError(f"--{name.replace('_', '-')} is {value}; expected at least 1")


def _of_run(args: argparse.Namespace) -> _Sides:
    """A run's images beside its data."""
    from pdm_jax.cli.sampling import open_sampling
    from pdm_jax.evaluation.generated import GeneratedFolder, fill
    from pdm_jax.evaluation.image_sets import ImageSet, as_trained
    from pdm_jax.pipelines.restore import read_config

    if args.size is not None:
        raise UserError("--size belongs to --images; a run's images have the size it was trained at")
    config = read_config(args.workdir, args.step)
    if config.model.system == "autoencoder":
        return _of_first_stage(args, config)
    sampling, out = open_sampling(args), _out_of_run(args)
    config, data = sampling.config, sampling.config.data
    num = config.eval.num if args.num is None else args.num
    facts = sampling.facts | {
        "images": args.workdir,
        "labels": args.labels,
        "steps": sampling.sampling.steps,
        "guidance": sampling.sampling.guidance,
        "images_per_s": None,  # of generating, once it is known
    }

    def open_images() -> ImageSet:
        steps = "-".join(f"{part}{step}" for part, step in sampling.model.steps.items())
        folder = GeneratedFolder(out / f"step-{steps}-{digest(sampling.about)}", sampling.about)
        with _bar("generate", num) as progress:
            facts["images_per_s"] = fill(folder, num, sampling.images, sampling.labels(num), progress)
        return ImageSet(folder.source(num), channels=data.channels, num=num, spread=False)

    return _Sides(
        num=num,
        open_images=open_images,
        reference=args.reference or config.eval.source or data.source,
        settings={"split": config.eval.split or data.split, **as_trained(data)},
        out=out,
        facts=facts,
        size=sampling.model.system.space.picture[:2],
        patch_size=(
            config.model.patch_size * sampling.model.system.space.factor
            if isinstance(config.model.patch_size, int)
            else None
        ),
    )


def _of_first_stage(args: argparse.Namespace, config: Config) -> _Sides:
    """Images beside what a run's first stage makes of them."""
    from pdm_jax.cli.reconstructing import open_reconstructions

    images, settings, facts = open_reconstructions(args, config)
    return _Sides(len(images), lambda: images, images.name, settings, _out_of_run(args), facts, images.image_shape[:2])


def _with_seam_period(demand: Demand, given: int | None, sides: _Sides) -> Demand:
    """The demand with the side of the patches; refused before images are made where they have no borders."""
    from pdm_jax.evaluation.seams import check_period

    if not demand.of_seams:
        if given is not None:
            raise UserError("--seam-period is of --metrics=seams, which is not asked for")
        return demand
    period = sides.patch_size if given is None else given
    if period in (None, 1):
        raise UserError("seams are of patches; give --seam-period=P, the side of the patches in pixels")
    check_period(*sides.size, period)
    return dataclasses.replace(demand, seam_period=period)


def _run_nll(args: argparse.Namespace) -> int:
    """Measures the likelihood; returns the exit status."""
    if args.workdir is None:
        raise UserError("--nll is of a run's model and needs --workdir")
    import jax

    from pdm_jax.cli.nll import measure_nll
    from pdm_jax.cli.sampling import open_sampling
    from pdm_jax.evaluation.results import write_results

    sampling, out = open_sampling(args), _out_of_run(args)
    scores, found = measure_nll(args, sampling, _bar)
    if jax.process_index() == 0:
        path = write_results(out, {"images": args.workdir, **sampling.facts, **found}, scores)
        print(f"nll  {scores['nll']:.4f} bits a dimension, standard error {scores['nll_error']:.4f}")
        print(f"{path}: {found['num']} images of {found['reference']}, {found['steps']} steps, {found['seconds']} s")
    return 0


def _out_of_run(args: argparse.Namespace) -> Path:
    if "://" in args.workdir and not args.out:
        raise UserError(f"{args.workdir} is no folder of a disk; give --out, one that all hosts can read")
    return Path(args.out or Path(args.workdir) / "eval").expanduser()


def _of_any(args: argparse.Namespace) -> _Sides:
    """Any images beside others."""
    from pdm_jax.evaluation.image_sets import ImageSet

    refuse_sampling_arguments(args)
    images = ImageSet(args.images, size=args.size, num=args.num)
    out = Path(args.out or "eval").expanduser()
    settings, facts = {"size": args.size}, {"images": args.images}
    return _Sides(len(images), lambda: images, args.reference, settings, out, facts, images.image_shape[:2])


def _show(scores: Mapping[str, float], facts: Mapping[str, Any], path: Path) -> None:
    """Prints the numbers and what they are of."""
    width = max(map(len, scores))
    for name, value in scores.items():
        print(f"{name:{width}}  {value:.6g}")
    made = f"{facts['num']} images" + (f", {facts['num_reference']} real ones" if facts["num_reference"] else "")
    network = f", features {facts['features']} {facts['weights']}" if "features" in facts else ""
    resize = f" (resize {facts['resize']})" if facts.get("resize", "none") != "none" else ""
    speed = f", generated at {facts['images_per_s']:.3g} images/s" if facts.get("images_per_s") else ""
    print(f"{path}: {made}{network}{resize}{speed}, {facts['seconds']} s")


@contextlib.contextmanager
def _bar(name: str, total: int) -> Iterator[Any]:
    import jax
    from tqdm import tqdm

    quiet = jax.process_index() != 0
    with tqdm(total=total, desc=name, unit="image", dynamic_ncols=True, leave=False, disable=quiet) as bar:
        yield bar.update


def _training_bar(steps: Iterable[Any]) -> Iterable[Any]:
    from tqdm import tqdm

    return tqdm(steps, desc="feature network", unit="step", dynamic_ncols=True, leave=False)


def _cache(folder: str | None) -> Path:
    path = Path(folder or os.environ.get("PDM_CACHE") or "~/.cache/pdm_jax").expanduser()
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot write to {path}: {error.strerror}; choose another --cache") from error
    return path


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read the prompts {path}: {error}; give a text file, one line an image") from error
