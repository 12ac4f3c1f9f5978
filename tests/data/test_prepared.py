"""A TFDS data set is prepared with tensorflow in an environment of its own, and read here without it."""

import json
import os
import subprocess
import sys
import venv

import pytest

_PREPARE = """
import sys
import numpy as np
import tensorflow_datasets as tfds

class TinyShapes(tfds.core.GeneratorBasedBuilder):
    VERSION = tfds.core.Version("1.2.3")

    def _info(self):
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict({
            "photo": tfds.features.Image(shape=(None, None, 3), encoding_format="png"),
            "shape": tfds.features.ClassLabel(names=["disc", "square"]),
        }))

    def _split_generators(self, manager):
        return {"train": self._generate_examples(7), "test": self._generate_examples(3)}

    def _generate_examples(self, count):
        for i in range(count):
            yield i, {"photo": np.full((6, 8, 3), 10 + 20 * i, np.uint8), "shape": i % 2}

for file_format in ("array_record", "tfrecord"):
    TinyShapes(data_dir=f"{sys.argv[1]}/{file_format}", file_format=file_format).download_and_prepare()
"""

_READ = """
import json, sys
from pdm_jax.config import DataConfig
from pdm_jax.data import make_dataset
from pdm_jax.errors import UserError

def main():
    seen = {}
    for workers in (0, 1):
        config = DataConfig("tfds:tiny_shapes", image_size=4, batch_size=3, num_workers=workers)
        dataset = make_dataset(config, 0)
        batches = list(dataset.once())
        seen[workers] = [
            dataset.num_records, dataset.class_names,
            *(sum((batch[key].tolist() for batch in batches), []) for key in ("index", "label")),
            [int(image.max()) for batch in batches for image in batch["image"]],
        ]
    seen["test"] = make_dataset(DataConfig("tfds:tiny_shapes", 4, 3, split="test"), 0).num_records
    try:
        make_dataset(DataConfig("tfds:tiny_shapes", 4, 3, split="train2"), 0)
    except UserError as error:
        seen["split"] = str(error)
    seen["tensorflow"] = "tensorflow" in sys.modules
    print(json.dumps(seen))

if __name__ == "__main__":
    main()
"""


def _read(script: str, data_dir) -> subprocess.CompletedProcess:
    environment = os.environ | {"TFDS_DATA_DIR": str(data_dir)}
    return subprocess.run([sys.executable, script], env=environment, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """A folder with a tiny data set in two formats, prepared where tensorflow is."""
    folder = tmp_path_factory.mktemp("tfds")
    venv.create(folder / "venv", with_pip=True)
    python = folder / "venv" / "bin" / "python"
    packages = ["tensorflow-cpu", "tensorflow-datasets", "array-record"]
    subprocess.run([python, "-m", "pip", "install", "-q", *packages], check=True)
    (folder / "prepare.py").write_text(_PREPARE)
    subprocess.run([python, folder / "prepare.py", folder], check=True)
    return folder


@pytest.mark.tfds
def test_prepared_data_set_is_read_without_tensorflow(prepared):
    script = prepared / "read.py"
    script.write_text(_READ)
    result = _read(script, prepared / "array_record")
    assert result.returncode == 0, result.stderr
    seen = json.loads(result.stdout)
    assert seen["0"] == seen["1"]
    num_records, class_names, indices, labels, values = seen["0"]
    assert (num_records, class_names, indices) == (7, ["disc", "square"], list(range(7)))
    assert sorted(values) == [10 + 20 * i for i in range(7)]  # TFDS shuffles when it prepares
    assert labels == [(value - 10) // 20 % 2 for value in values]
    assert seen["test"] == 3
    assert "has no split 'train2'; config.data.split can be " in seen["split"]
    assert not seen["tensorflow"]


@pytest.mark.tfds
def test_format_without_random_access_says_how_to_prepare(prepared):
    script = prepared / "refuse.py"
    script.write_text("from pdm_jax.data.sources import open_source; open_source('tfds:tiny_shapes')")
    result = _read(script, prepared / "tfrecord")
    assert "UserError: tfds:tiny_shapes is prepared in a format that cannot be read at random" in result.stderr
    assert "tfds build tiny_shapes --file_format=array_record" in result.stderr
