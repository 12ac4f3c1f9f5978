"""A folder of tiny images in two classes, each pixel telling which image it is of."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pdm_jax.data.sources import open_source
from pdm_jax.data.tokenizer import train_tokenizer


@pytest.fixture
def image_folder(tmp_path: Path) -> Path:
    """cat/0.png .. cat/5.png and dog/6.png .. dog/10.png, 8x6 pixels of the grey value 10 + 20 * number."""
    folder = tmp_path / "animals"
    for index in range(11):
        path = folder / ("cat" if index < 6 else "dog") / f"{index:02}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((6, 8, 3), 10 + 20 * index, np.uint8)).save(path)
    return folder


@pytest.fixture(scope="session")
def tokenizer_file(tmp_path_factory) -> Path:
    """A tokeniser of 120 tokens, trained on captions of the built-in scenes."""
    scenes = open_source("builtin:scenes")
    path = tmp_path_factory.mktemp("tokenizer") / "tokenizer.json"
    train_tokenizer([caption for i in range(100) for caption in scenes[i].captions], 120).save(path)
    return path
