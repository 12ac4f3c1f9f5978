"""Which metrics there are, and what each needs."""

from __future__ import annotations

import dataclasses

from pdm_jax.errors import UserError
from pdm_jax.evaluation import uncertainty
from pdm_jax.evaluation.networks import FeatureNetwork
from pdm_jax.evaluation.summary import Wanted

DISTRIBUTION = ("fid", "sfid", "is", "kid", "precision", "recall", "density", "coverage")
PAIRED = ("psnr", "ssim", "psnr_y", "ssim_y", "lpips")
TEXT = ("clip",)
SEAMS = ("seams",)
# Of reconstructions beside their originals; the same numbers, but each image must have its original.
RECONSTRUCTION = {"rfid": "fid", "ris": "is"}
ALL = (*DISTRIBUTION, *RECONSTRUCTION, *PAIRED, *TEXT, *SEAMS)
FRECHET = ("fid", "sfid")
MANIFOLD = ("precision", "recall", "density", "coverage")


@dataclasses.dataclass(frozen=True)
class Demand:
    """The metrics of one evaluation and how they are taken."""

    metrics: tuple[str, ...]
    confidence: bool = False  # a 95 % interval of Fréchet distances
    extrapolate: bool = False  # Fréchet distances at infinitely many images
    splits: int = 10  # of the Inception Score
    neighbours: int = 3  # k of precision and recall
    manifold_num: int = 10_000  # real images of precision and recall, and of KID; the papers' number
    seam_period: int | None = None  # the side of the patches whose borders `seams` looks at, in pixels

    def __post_init__(self):
        for name in self.metrics:
            if name not in ALL:
                raise UserError(f"there is no metric {name!r}; the metrics are {', '.join(ALL)}")

    @property
    def of_features(self) -> tuple[str, ...]:
        """The metrics of distributions, reconstructions' as such."""
        names = (RECONSTRUCTION.get(name, name) for name in self.metrics)
        return tuple(dict.fromkeys(name for name in names if name in DISTRIBUTION))

    @property
    def of_pairs(self) -> tuple[str, ...]:
        """The metrics of pairs of images."""
        return tuple(name for name in self.metrics if name in PAIRED)

    @property
    def of_seams(self) -> bool:
        """Whether the borders of patches are looked at."""
        return any(name in SEAMS for name in self.metrics)

    @property
    def is_paired(self) -> bool:
        """Whether every image needs its original."""
        return any(name in PAIRED or name in RECONSTRUCTION for name in self.metrics)

    @property
    def needs_reference_features(self) -> bool:
        """Whether real images are needed, not only their statistics."""
        return any(name in (*MANIFOLD, "kid") for name in self.of_features)

    @property
    def has_groups(self) -> bool:
        """Whether statistics of groups of images are needed."""
        return self.confidence or self.extrapolate

    def outputs(self, network: FeatureNetwork) -> dict[str, str]:
        """The output of a network whose statistics each Fréchet distance needs.

        Raises:
          UserError: the network has not what a metric needs.
        """
        needed = {"fid": next(iter(network.outputs)), "sfid": "spatial", "is": "logits"}
        for name in self.of_features:
            if name in needed and needed[name] not in network.outputs:
                raise UserError(
                    f"{name} needs {needed[name]} features, which {network.name} has not; "
                    "drop it from --metrics or give --features=inception:FILE"
                )
        return {name: needed[name] for name in FRECHET if name in self.of_features}

    def wanted(self, network: FeatureNetwork) -> Wanted:
        """What to keep of the images that are judged."""
        return Wanted(
            statistics=tuple(self.outputs(network).values()),
            groups=uncertainty.GROUPS if self.has_groups else 1,
            splits=self.splits if "is" in self.of_features else 0,
            features=self.needs_reference_features,
        )

    def check_num(self, images: int, reference: int | None) -> None:
        """Raises a `UserError` where a metric needs more images than there are; None is an unknown number."""
        for name in (RECONSTRUCTION.get(name, name) for name in self.metrics):
            least = least_reference = 1
            if name in FRECHET:
                least, least_reference = 2 * uncertainty.GROUPS if self.has_groups else 2, 2
            elif name in MANIFOLD:
                least = least_reference = self.neighbours + 1
            elif name == "kid":
                least = least_reference = 2
            elif name == "is":
                least = self.splits
            for side, count, need in (("images", images, least), ("reference images", reference, least_reference)):
                if count is not None and count < need:
                    raise UserError(f"{name} needs at least {need} {side}, there are {count}; give more")
