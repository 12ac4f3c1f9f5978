"""A TFDS data set is prepared with tensorflow in an environment of its own, and read here without it."""

import json
import os
import subprocess
import sys
import types
import venv

import numpy as np
import pytest

from pdm_jax.data.sources import open_source
from pdm_jax.data.sources import prepared as prepared_sources

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


def _example(features, values):
    """What a prepared data set gives for values."""
    import tensorflow_datasets as tfds
    from tensorflow_datasets.core import example_parser, example_serializer

    features, info = tfds.features.FeaturesDict(features), tfds.features.FeaturesDict(features).get_serialized_info()
    written = example_serializer.ExampleSerializer(info).serialize_example(features.encode_example(values))
    return features.decode_example_np(example_parser.ExampleParserNp(info).parse_example(written))


@pytest.mark.parametrize(
    ("name", "wrap", "captions"),
    [
        ("captions", lambda f, text: f.Sequence({"id": np.int64, "text": text}), [{"id": 1, "text": "a cat"}]),
        ("captions", lambda f, text: f.Sequence(text), ["a cat", "cats"]),
        ("caption", lambda f, text: text, "a cat"),
    ],
)
def test_captions_and_objects_are_found(monkeypatch, name, wrap, captions):
    import tensorflow_datasets as tfds

    objects = {"bbox": tfds.features.BBoxFeature(), "label": tfds.features.ClassLabel(names=["cat", "dog"])}
    features = {name: wrap(tfds.features, tfds.features.Text()), "objects": tfds.features.Sequence(objects)}
    box = tfds.features.BBox(ymin=0.25, xmin=0.5, ymax=0.75, xmax=0.625)
    examples = [
        {"image": np.zeros((4, 4, 3), np.uint8), **_example(features, {name: captions, "objects": each})}
        for each in ([{"bbox": box, "label": 1}], [])
    ]
    info = types.SimpleNamespace(
        features=tfds.features.FeaturesDict(features | {"image": tfds.features.Image()}), full_name="pets"
    )
    builder = types.SimpleNamespace(info=info, as_data_source=lambda split, decoders: examples)
    monkeypatch.setattr(prepared_sources, "_find", lambda name: builder)
    source = open_source("tfds:pets")
    assert source.fields == ("captions", "layout") and source.object_names == ("cat", "dog")
    assert source[0].captions[0] == "a cat" and source[0].layout == ({"class": 1, "box": [0.5, 0.25, 0.125, 0.5]},)
    assert source[1].layout == () and source.lacking("layout") == []


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
