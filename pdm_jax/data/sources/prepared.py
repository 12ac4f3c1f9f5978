"""TensorFlow Datasets that were prepared as ArrayRecord, read through `data_source` without tensorflow."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from pdm_jax.data.record import Record, Source
from pdm_jax.errors import UserError

_CAPTIONS = ("captions", "caption", "text")
_OBJECTS = "objects"


class TfdsSource(Source):
    """A split of a prepared data set, `name[/config][:version]`, found in `$TFDS_DATA_DIR` or TFDS's usual place.

    The image is the feature called "image", or else the first one that is an image; the label likewise. Captions are
    the texts in "captions", "caption" or "text"; a layout is made of "objects" with a "bbox" and a "label", as COCO's.
    """

    def __init__(self, name: str, split: str):
        try:
            import tensorflow_datasets as tfds
        except ImportError as error:
            raise UserError(
                f"tfds:{name} needs TensorFlow Datasets; pip install tensorflow-datasets array-record"
            ) from error
        builder = _find(name)
        features = builder.info.features
        self._image = _feature(features, "image", tfds.features.Image)
        self._label = _feature(features, "label", tfds.features.ClassLabel)
        if self._image is None:
            raise UserError(f"tfds:{name} has no image feature, only {', '.join(features)}; choose an image data set")
        if self._label is not None:
            self.class_names = tuple(features[self._label].names)
        self._captions = _captions_in(features)
        if _has_objects(features):
            self.object_names = tuple(features[_OBJECTS]["label"].names)
        told = {"captions": self._captions is not None, "layout": bool(self.object_names)}
        self.fields = tuple(field for field, is_there in told.items() if is_there)
        try:
            self._data = builder.as_data_source(split, decoders={self._image: tfds.decode.SkipDecoding()})
        except NotImplementedError as error:
            raise UserError(
                f"tfds:{name} is prepared in a format that cannot be read at random; {_how_to_prepare(name)}"
            ) from error
        except ValueError as error:
            splits = ", ".join(builder.info.splits)
            raise UserError(f"tfds:{name} has no split {split!r}; config.data.split can be {splits}") from error
        self.fingerprint = f"{builder.info.full_name}:{split}"
        self._split = split

    def __len__(self) -> int:
        return len(self._data)

    def __getitem__(self, index: int) -> Record:
        example = self._data[index]
        image = example[self._image]
        label = None if self._label is None else int(example[self._label])
        # Undecoded is the encoded file; image features without an encoding hold pixels.
        image = image if isinstance(image, bytes) else np.asarray(image)
        captions = None if self._captions is None else _texts(example[self._captions]) or None
        layout = _layout(example[_OBJECTS]) if self.object_names else None
        return Record(image, index, f"{self._split}/{index}", label, captions, layout)


def _find(name: str) -> Any:
    """The builder that reads the prepared files; the code that made the data set is not needed."""
    from tensorflow_datasets.core import read_only_builder, registered

    try:
        return read_only_builder.builder_from_files(name)
    except registered.DatasetNotFoundError as error:
        raise UserError(f"tfds:{name} is not prepared; {_how_to_prepare(name)}") from error
    except ValueError as error:
        raise UserError(
            f"tfds:{name} is no name of a data set; expected tfds:NAME or tfds:NAME/CONFIG:VERSION"
        ) from error


def _how_to_prepare(name: str) -> str:
    return (
        f"prepare it once, in an environment with tensorflow: `tfds build {name} --file_format=array_record`, "
        "and set TFDS_DATA_DIR if it is not in ~/tensorflow_datasets"
    )


def _feature(features: Any, usual_name: str, kind: type) -> str | None:
    """The name of the feature of a kind: the usual one if it is there, or else the first."""
    names = [name for name, feature in features.items() if isinstance(feature, kind)]
    return usual_name if usual_name in names else next(iter(names), None)


def _captions_in(features: Any) -> str | None:
    """The name of the feature that holds captions: a text, several, or several records with a "text"."""
    import tensorflow_datasets as tfds

    for name in _CAPTIONS:
        feature = dict(features).get(name)
        if isinstance(feature, tfds.features.Sequence):
            feature = feature.feature
        if isinstance(feature, tfds.features.FeaturesDict):
            feature = dict(feature).get("text")
        if isinstance(feature, tfds.features.Text):
            return name
    return None


def _texts(value: Any) -> tuple[str, ...]:
    """The captions in what such a feature holds."""
    texts = value["text"] if isinstance(value, Mapping) else value
    return tuple(text.decode() for text in ([texts] if isinstance(texts, bytes) else texts))


def _has_objects(features: Any) -> bool:
    import tensorflow_datasets as tfds

    objects = dict(features).get(_OBJECTS)
    if not isinstance(objects, tfds.features.Sequence) or not isinstance(objects.feature, tfds.features.FeaturesDict):
        return False
    kinds = {"bbox": tfds.features.BBoxFeature, "label": tfds.features.ClassLabel}
    return all(isinstance(dict(objects.feature).get(name), kind) for name, kind in kinds.items())


def _layout(objects: Mapping[str, Any]) -> tuple[dict[str, Any], ...]:
    """Objects as `pdm_jax.data.layouts` has them; TFDS's boxes are (top, left, bottom, right)."""
    pairs = zip(objects["bbox"], objects["label"], strict=True)
    return tuple(
        {"class": int(label), "box": [float(x) for x in (left, top, right - left, bottom - top)]}
        for (top, left, bottom, right), label in pairs
    )
