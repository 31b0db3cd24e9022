"""The index of a table: its image, label and id columns, and the items of its rows."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gendataagent.config import AUTO, DataConfig
from gendataagent.core.errors import DataError
from gendataagent.data.index import TRAIN, DatasetIndex, Item, first_few, normalise_name
from gendataagent.data.tables import TableFile, TableStore

IMAGE_NAMES = ("image", "img", "picture", "photo", "jpg", "png")
LABEL_NAMES = ("label", "labels", "class", "target", "fine_label", "category", "class_name")
ID_NAME = "id"

_Value = str | int


@dataclass(frozen=True, slots=True)
class Columns:
    """Names of the columns used; `class_names` of a ClassLabel, else None."""

    image: str
    label: str
    id: str | None
    class_names: tuple[str, ...] | None


def index_tables(
    root: Path, files: Sequence[TableFile], config: DataConfig, notes: Sequence[str]
) -> DatasetIndex:
    """Return the items of all rows, in file and row order.

    Ids are taken from a column `id` (prefixed by the split if unique only within a split), else
    `file#row`.

    Raises:
        DataError: broken files, ambiguous columns, missing labels, or repeated ids.
    """
    if not files:
        raise DataError(f"no tables with rows in {root}; save the data again")
    columns = _find_columns(files, config)
    store = TableStore(files, columns.image, str(root))
    labels: list[_Value | None] = []
    ids: list[str] = []
    splits: list[str] = []
    for file in files:
        table = file.read([columns.label, *([columns.id] if columns.id else [])])
        labels += _labels(file, table.column(columns.label).to_pylist(), columns)
        splits += [file.split] * table.num_rows
        if columns.id:
            ids += _ids(file, table.column(columns.id).to_pylist())
    notes = list(notes)
    if not columns.id:
        ids = [store.name(row) for row in range(len(labels))]
    elif len(set(ids)) < len(ids):
        _require_unique(ids, splits)
        ids = [f"{split}/{source_id}" for split, source_id in zip(splits, ids, strict=True)]
        notes.append("Ids are unique only within a split, so they were prefixed by the split.")
    unlabelled = _unlabelled_splits(labels, splits, store)
    notes += [f"Ignored the {split} split: it has no labels." for split in sorted(unlabelled)]
    names = _class_names(labels, columns)
    if not columns.class_names and all(isinstance(value, int) for value in names):
        notes.append("The classes are numbers without names; prompts will contain the numbers.")
    items = tuple(
        Item(row, ids[row], names[label], splits[row])
        for row, label in enumerate(labels)
        if label is not None
    )
    return DatasetIndex(
        store=store, items=items, class_names=tuple(names.values()), notes=tuple(notes)
    )


def _find_columns(files: Sequence[TableFile], config: DataConfig) -> Columns:
    first = files[0].schema()
    features = _features(first)
    image = _pick(first.names, config.image_column, "image", _image_columns(first, features))
    coded = [name for name in first.names if features.get(name, {}).get("_type") == "ClassLabel"]
    if len(coded) != 1:
        coded = [name for name in LABEL_NAMES if name in (coded or first.names)][:1]
    label = _pick(first.names, config.label_column, "label", coded)
    for file in files[1:]:
        names = file.schema().names
        if missing := [name for name in (image, label) if name not in names]:
            raise DataError(
                f"{file.name} has no column {' and '.join(missing)} as {files[0].name} has; its "
                f"columns are {', '.join(names)}. Give all tables the same columns"
            )
    has_ids = all(ID_NAME in file.schema().names for file in files)
    class_names = features.get(label, {}).get("names")
    return Columns(
        image=image,
        label=label,
        id=ID_NAME if has_ids and label != ID_NAME else None,
        class_names=tuple(normalise_name(name) for name in class_names) if class_names else None,
    )


def image_column(file: TableFile, wanted: str = AUTO) -> str:
    """Return the image column of one table; raise `DataError` if it is ambiguous or missing."""
    schema = file.schema()
    return _pick(schema.names, wanted, "image", _image_columns(schema, _features(schema)))


def _pick(names: Sequence[str], wanted: str, what: str, candidates: Sequence[str]) -> str:
    """Return the column set in the config, or the only candidate."""
    if wanted != AUTO:
        if wanted in names:
            return wanted
        problem = f"no column {wanted!r} (data.{what}_column)"
    elif len(candidates) == 1:
        return candidates[0]
    elif candidates:
        problem = f"{' and '.join(candidates)} could each be the {what} column"
    else:
        problem = f"no {what} column was recognised"
    raise DataError(
        f"{problem}; the columns are {', '.join(names)}. Set data.{what}_column to one of them"
    )


def _features(schema: Any) -> Mapping[str, Mapping[str, Any]]:
    """Return the Hugging Face features in the schema; {} without any."""
    try:
        content = json.loads((schema.metadata or {})[b"huggingface"])
        features: Mapping[str, Any] = content["info"]["features"]
        return {name: value for name, value in features.items() if isinstance(value, dict)}
    except (KeyError, ValueError, TypeError, AttributeError):
        return {}


def _image_columns(schema: Any, features: Mapping[str, Mapping[str, Any]]) -> list[str]:
    import pyarrow.types as kinds

    declared = [name for name in schema.names if features.get(name, {}).get("_type") == "Image"]
    structs, binaries = [], []
    for column in schema:
        if kinds.is_struct(column.type) and column.type.get_field_index("bytes") >= 0:
            structs.append(column.name)
        elif kinds.is_binary(column.type) or kinds.is_large_binary(column.type):
            binaries.append(column.name)
    for candidates in (declared, structs, binaries):
        if candidates:
            return [name for name in IMAGE_NAMES if name in candidates][:1] or candidates
    return []


def _labels(file: TableFile, values: list[Any], columns: Columns) -> list[_Value | None]:
    """Return labels as text or integers, None where missing (also -1 of a ClassLabel)."""
    count = len(columns.class_names) if columns.class_names else None
    labels: list[_Value | None] = []
    for row, value in enumerate(values):
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        elif isinstance(value, bool):
            value = str(value).lower()
        if value is None or (count is not None and value == -1):
            labels.append(None)
            continue
        bad_number = isinstance(value, float) and not math.isfinite(value)
        out_of_range = count is not None and not (isinstance(value, int) and 0 <= value < count)
        if bad_number or out_of_range or not isinstance(value, str | int):
            allowed = f"integers below {count}" if count else "integers or text"
            raise DataError(
                f"{file.name}#{row}: the label in column {columns.label!r} is {value!r}, allowed "
                f"are {allowed}; fix or drop the row"
            )
        labels.append(normalise_name(value) if isinstance(value, str) else value)
    return labels


def _ids(file: TableFile, values: list[Any]) -> list[str]:
    for row, value in enumerate(values):
        if isinstance(value, bool) or not isinstance(value, str | int) or value == "":
            raise DataError(
                f"{file.name}#{row}: the id is {value!r}, allowed are text and integers; "
                f"fill the column {ID_NAME!r}, or rename it to use row numbers as ids"
            )
    return [normalise_name(str(value)) for value in values]


def _require_unique(ids: Sequence[str], splits: Sequence[str]) -> None:
    counts = Counter(zip(splits, ids, strict=True))
    twice = [source_id for (_, source_id), count in counts.items() if count > 1]
    if twice:
        raise DataError(
            f"{len(twice)} ids in the column {ID_NAME!r} occur in more than one row: "
            f"{first_few(twice)}. Make them unique, or rename the column to use row numbers as ids"
        )


def _unlabelled_splits(
    labels: Sequence[_Value | None], splits: Sequence[str], store: TableStore
) -> set[str]:
    """Return the splits (not train) without any label; a few missing labels are an error."""
    total, missing = Counter(splits), Counter[str]()
    rows = [row for row, label in enumerate(labels) if label is None]
    for row in rows:
        missing[splits[row]] += 1
    unlabelled = {split for split in missing if missing[split] == total[split]} - {TRAIN}
    if wrong := [store.name(row) for row in rows if splits[row] not in unlabelled]:
        raise DataError(
            f"{len(wrong)} rows have no label: {first_few(wrong)}. Label them or drop the rows"
        )
    return unlabelled


def _class_names(labels: Sequence[_Value | None], columns: Columns) -> dict[_Value, str]:
    """Return {label value: class name} in label order."""
    if columns.class_names:
        return dict(enumerate(columns.class_names))
    values = {label for label in labels if label is not None}
    return {value: str(value) for value in sorted(values, key=lambda v: (isinstance(v, str), v))}
