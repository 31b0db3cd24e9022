"""Labelled images as a `datasets.Dataset` of Hugging Face."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gendataagent.data.items import RowItems


def image_dataset(
    *,
    images: Sequence[Mapping[str, Any]],
    labels: Sequence[int],
    class_names: Sequence[str],
    columns: Mapping[str, Sequence[Any]],
    types: Mapping[str, str],
    like: RowItems | None = None,
) -> Any:
    """Return a data set with an image and a label column, and `columns` behind them.

    Args:
        images: {"path": ..., "bytes": ...} each, one of the two None.
        types: column -> name of its Arrow type.
        like: the data set whose names and types the image and label column take; a column that it
            has with another type is left out, so that both can be concatenated. None = "image",
            and "label" as ClassLabel.
    """
    import datasets

    image, label = ("image", "label") if like is None else (like.image_column, like.label_column)
    own = {} if like is None else like.source.features
    features = {
        image: own.get(image, datasets.Image()),
        label: own.get(label, datasets.ClassLabel(names=list(class_names))),
    }
    rows: dict[str, Sequence[Any]] = {
        image: list(images),
        label: list(labels) if like is None else [like.values[index] for index in labels],
    }
    for name, kind in types.items():
        feature = datasets.Value(kind)
        if name not in features and own.get(name, feature) == feature:
            features[name], rows[name] = feature, columns[name]
    return datasets.Dataset.from_dict(rows, features=datasets.Features(features))
