"""A `datasets.Dataset` in memory or on disk as labelled images; only needed rows are read."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, BinaryIO

from gendataagent.config import AUTO, DataConfig
from gendataagent.core.errors import DataError, ImageUnreadableError
from gendataagent.core.files import open_regular
from gendataagent.core.text import counted
from gendataagent.data.formats.column_names import label_columns
from gendataagent.data.formats.table_index import ID_NAME
from gendataagent.data.items import RowItems
from gendataagent.data.labels import is_unlabelled, unsigned_minus_one
from gendataagent.data.sets import LabelledImages, shared_bits

_HASH_BYTES = 6


def is_datasets(value: Any) -> bool:
    """Return whether this is a data set of the library `datasets`, without importing it."""
    return any(kind.__module__.split(".")[0] == "datasets" for kind in type(value).__mro__)


class RowStore:
    """The encoded images of a column.

    Args:
        rows: a `datasets.Dataset` of which this column is not decoded.
    """

    def __init__(self, rows: Any, column: str) -> None:
        self._rows, self._column = rows, column

    def open(self, row: int) -> BinaryIO:
        """Return the encoded image of a row."""
        value = self._rows[row][self._column] or {}
        if value.get("bytes") is not None:
            return io.BytesIO(value["bytes"])
        if value.get("path"):
            return open_regular(value["path"])
        raise ImageUnreadableError("the row holds no image")

    def name(self, row: int) -> str:
        """Return the row number."""
        return f"row {row}"


def open_rows(data_set: Any, config: DataConfig) -> tuple[LabelledImages, RowItems]:
    """Return the images of a `datasets.Dataset`, and the form of its rows.

    Ids are those of a column `id` if they are unique, else row number and a hash of the image
    file, so that they stay the same while the data does. Formats and transforms of the data set
    are passed by: the images are as stored.

    Raises:
        DataError: streamed data, no image or label column, or labels without a class.
    """
    import datasets

    if isinstance(data_set, Mapping):
        if "train" not in data_set:
            raise DataError(
                f"the DatasetDict has the splits {', '.join(data_set)} and no train; give one of "
                "them, as data[SPLIT]"
            )
        data_set = data_set["train"]
    if not isinstance(data_set, datasets.Dataset):
        raise DataError(
            f"a {type(data_set).__name__} cannot be read at random; load it without streaming=True"
        )
    if not len(data_set):
        raise DataError("the train set is empty; give at least one image of each class")
    image, label = _columns(data_set, config)
    plain = data_set.with_format(None).select_columns([image])
    rows = plain.cast_column(image, datasets.Image(decode=False))
    values, labels, class_names = _labels(data_set, label)
    id_column = ID_NAME if ID_NAME in data_set.column_names and label != ID_NAME else None
    store = RowStore(rows, image)
    ids = _ids(data_set, id_column) or [_content_id(store, row) for row in range(len(rows))]
    images = LabelledImages(
        class_names=class_names,
        ids=tuple(ids),
        labels=labels,
        rows=tuple(range(len(rows))),
        store=store,
        max_pixels=config.max_megapixels * 1e6,
    )
    images = replace(images, bits=shared_bits(images))
    form = RowItems(
        source=data_set,
        row_of={id_: row for row, id_ in enumerate(ids)},
        image_column=image,
        label_column=label,
        id_column=id_column,
        values=values,
    )
    return images, form


def _columns(data_set: Any, config: DataConfig) -> tuple[str, str]:
    import datasets

    features = data_set.features
    images = [name for name, kind in features.items() if isinstance(kind, datasets.Image)]
    labels = [name for name, kind in features.items() if isinstance(kind, datasets.ClassLabel)]
    if len(labels) != 1:
        labels = label_columns(labels or list(features))
    found = []
    for what, wanted, candidates in (
        ("image", config.image_column, images),
        ("label", config.label_column, labels),
    ):
        if wanted != AUTO:
            candidates = [name for name in features if name == wanted]
        if len(candidates) != 1 or (what == "image" and candidates[0] not in images):
            raise DataError(
                f"the {what} column is not clear: the columns are "
                f"{', '.join(f'{name} ({type(kind).__name__})' for name, kind in features.items())}"
                f". Name it with {what}_column=...; images must be of the feature Image"
            )
        found.append(candidates[0])
    return found[0], found[1]


def _labels(
    data_set: Any, column: str
) -> tuple[tuple[int | str, ...], tuple[int, ...], tuple[str, ...]]:
    """Return the column's value of each class, the class of each row, and the class names.

    A ClassLabel keeps its order; other labels are sorted, and numbers named by themselves.
    """
    import datasets

    found: list[Any] = list(data_set.with_format(None)[column])
    kind = data_set.features[column]
    values: tuple[int | str, ...] = ()
    names: tuple[str, ...] = ()
    if isinstance(kind, datasets.ClassLabel):
        names = tuple(kind.names)
        values = tuple(range(len(names)))
        nameless = {value for value, name in enumerate(names) if is_unlabelled(name)}
        found = [None if value in nameless else value for value in found]
    else:
        plain = [value for value in found if isinstance(value, int)]
        unsigned = unsigned_minus_one(plain)
        found = [None if isinstance(v, int) and v in unsigned else v for v in found]
    if missing := [row for row, value in enumerate(found) if is_unlabelled(value)]:
        raise DataError(
            f"{counted(len(missing), 'row has', 'rows have')} no {column} (None, empty text, or "
            f"-1, as unsigned number too: 255, 65535, ...), the first is row {missing[0]}. Label "
            "them, or leave them out with filter(...)"
        )
    if not names and all(map(_is_class, found)):
        values = tuple(sorted(set(found)))
        names = tuple(str(value) for value in values)
    class_of = {value: index for index, value in enumerate(values)}
    bad = (r for r, v in enumerate(found) if not _is_class(v) or (names and v not in class_of))
    if (row := next(bad, None)) is not None:
        raise DataError(
            f"row {row} has the {column} {found[row]!r}, which is no class; allowed are a "
            "ClassLabel, whole numbers from 0 on, or text. Correct the rows, or leave them out "
            "with filter(...)"
        )
    return values, tuple(class_of[value] for value in found), names


def _is_class(value: Any) -> bool:
    return isinstance(value, str) or (isinstance(value, int) and value >= 0)


def _ids(data_set: Any, column: str | None) -> list[str] | None:
    if column is None:
        return None
    ids = [str(value) for value in data_set.with_format(None)[column]]
    return ids if len(set(ids)) == len(ids) and all(ids) else None


def _content_id(store: RowStore, row: int) -> str:
    try:
        with store.open(row) as stream:
            digest = hashlib.blake2b(stream.read(), digest_size=_HASH_BYTES).hexdigest()
    except (OSError, ImageUnreadableError) as error:
        raise DataError(
            f"row {row} has no readable image ({error}); leave it out with filter(...)"
        ) from error
    return f"{row:06d}-{digest}"
