"""Images that come with installed packages: scikit-learn's digits, and real photographs. Nothing is downloaded."""

from __future__ import annotations

import importlib
import importlib.resources
import io

import numpy as np

from pdm_jax.data.record import Record, Source, checksum
from pdm_jax.errors import UserError

_PHOTOS = {  # package: colour photographs inside its wheel
    "skimage": [
        "data/astronaut.png",
        "data/chelsea.png",
        "data/coffee.png",
        "data/hubble_deep_field.jpg",
        "data/motorcycle_left.png",
        "data/retina.jpg",
        "data/rocket.jpg",
    ],
    "sklearn": ["datasets/images/china.jpg", "datasets/images/flower.jpg"],
}
_PACKAGES = {"skimage": "scikit-image", "sklearn": "scikit-learn"}
_WINDOWS = 256  # windows on each photograph
NUMBER_WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


class DigitsSource(Source):
    """1797 handwritten digits of 8x8 grey pixels (the UCI optical digits, as scikit-learn ships them), 10 classes.

    Each has a caption, "a handwritten three".
    """

    cacheable = True
    class_names = tuple("0123456789")
    fields = ("captions",)
    fingerprint = "digits"

    def __init__(self):
        require("sklearn", "builtin:digits")
        from sklearn.datasets import load_digits

        digits = load_digits()
        self._images = np.round(digits.images * (255 / 16)).astype(np.uint8)  # (1797, 8, 8), were 0..16
        self._labels = digits.target

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, index: int) -> Record:
        label = int(self._labels[index])
        captions = (f"a handwritten {NUMBER_WORDS[label]}",)
        return Record(self._images[index], index, f"digits/{index}", label, captions)


class PhotosSource(Source):
    """Square windows on photographs: 256 on each, with sides from half to all of the photograph's shorter side.

    Where window i lies is drawn from a generator seeded with i, so each record is the same at every opening.
    """

    def __init__(self):
        from PIL import Image

        self._photos = []
        for package, files in _PHOTOS.items():
            require(package, "builtin:photos")
            for file in files:
                data = importlib.resources.files(package).joinpath(file).read_bytes()
                name = file.rpartition("/")[2].partition(".")[0]
                self._photos.append((name, np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))))
        self.fingerprint = checksum(name for name, _ in self._photos)

    def __len__(self) -> int:
        return _WINDOWS * len(self._photos)

    def __getitem__(self, index: int) -> Record:
        name, photo = self._photos[index % len(self._photos)]  # (H, W, 3)
        rng = np.random.default_rng(index)
        height, width, _ = photo.shape
        side = rng.integers(min(height, width) // 2, min(height, width), endpoint=True)
        row = rng.integers(0, height - side, endpoint=True)
        col = rng.integers(0, width - side, endpoint=True)
        return Record(
            photo[row : row + side, col : col + side], index, f"{name}[{row}:{row + side},{col}:{col + side}]"
        )


def require(package: str, wanted_by: str) -> None:
    """Raises a `UserError` that names the source unless the package is there."""
    try:
        importlib.import_module(package)
    except ImportError as error:
        raise UserError(f"{wanted_by} needs {_PACKAGES[package]}; pip install {_PACKAGES[package]}") from error
