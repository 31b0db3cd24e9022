"""The index of a table: its image, label and id columns, and the items of its rows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from gendataagent.config import AUTO, DataConfig
from gendataagent.core.errors import DataError
from gendataagent.core.files import parse_others_json, read_bytes
from gendataagent.core.text import counted, reason_of
from gendataagent.data.formats.column_names import IMAGE_NAMES, label_columns, path_columns
from gendataagent.data.formats.image_paths import ImagePaths
from gendataagent.data.formats.tables import TableFile, TableStore
from gendataagent.data.index import TRAIN, DatasetIndex, Item, first_few, normalise_name
from gendataagent.data.labels import LabelColumn, class_name_of, name_labels, unlabelled_notes
from gendataagent.data.numbered_names import names_by_number
from gendataagent.data.synthetic_marks import GENERATOR, SOURCE, marked_rows

ID_NAME = "id"


@dataclass(frozen=True, slots=True)
class Columns:
    """Names of the columns used."""

    image: str
    label: str
    id: str | None


def index_tables(
    root: Path,
    files: Sequence[TableFile],
    config: DataConfig,
    notes: Sequence[str],
    *,
    need_train: bool = True,
    named_by_row: bool = False,
) -> DatasetIndex:
    """Return the items of all rows, in file and row order.

    Ids are taken from a column `id` (prefixed by the split if unique only within a split), else
    `file#row`.

    Args:
        need_train: whether the training images must have labels, and columns named in the settings
            must be there; else a part without labels is ignored, and the columns are looked for.
        named_by_row: whether ids are `#row`, for a file that may be renamed.

    Raises:
        DataError: broken files, ambiguous columns, missing labels, labels that have other meanings
            in each file, or repeated ids.
    """
    if not files:
        raise DataError(f"no tables with rows in {root}; save the data again")
    if not need_train:
        config, column_notes = without_missing_columns(_stating(files).schema().names, config)
        notes = [*notes, *column_notes]
    columns = _find_columns(files, config)
    store = TableStore(files, columns.image, ImagePaths.of(root, config.image_root))
    store.check_paths()
    found: list[LabelColumn] = []
    ids: list[str] = []
    splits: list[str] = []
    groups: list[str | None] = []
    synthetic: set[int] = set()
    grouped = [config.group_by in file.schema().names for file in files]
    for number, file in enumerate(files):
        labelled = columns.label in file.schema().names
        wanted = [columns.label] if labelled else [columns.image]
        table = file.read([*wanted, *([columns.id] if columns.id else [])])
        if table.num_rows != store.rows_of(number):
            raise DataError(
                f"cannot read {file.path}: it has {store.rows_of(number)} images but "
                f"{table.num_rows} labels. Download or save it again"
            )
        values = [None] * table.num_rows
        if labelled:
            values = table.column(columns.label).to_pylist()
        names = names_in(file, columns.label)
        found.append(LabelColumn(file.name, file.split, values, names, columns.label))
        splits += [file.split] * table.num_rows
        if columns.id:
            ids += _ids(file, table.column(columns.id).to_pylist())
        if any(grouped):
            values = [None] * len(values)
            if grouped[number]:
                values = file.read([config.group_by]).column(config.group_by).to_pylist()
            groups += [None if value is None else str(value) for value in values]
        if {SOURCE, GENERATOR} <= set(file.schema().names):
            marks = file.read([SOURCE, GENERATOR]).to_pydict()
            synthetic |= {len(splits) - table.num_rows + row for row in marked_rows(marks)}
    named = name_labels(found)
    labels = [label for part in named.labels for label in part]
    notes = [*notes, *named.notes]
    if not columns.id:
        rows = range(len(labels))
        ids = [f"#{row}" if named_by_row else store.name(row) for row in rows]
    elif len(set(ids)) < len(ids):
        _require_unique(ids, splits)
        ids = [f"{split}/{source_id}" for split, source_id in zip(splits, ids, strict=True)]
        notes.append("Ids are unique only within a split, so they were prefixed by the split.")
    notes += unlabelled_notes(labels, splits, store.name, need_train=need_train)
    items = tuple(
        Item(row, ids[row], label, splits[row])
        for row, label in enumerate(labels)
        if label is not None
    )
    return DatasetIndex(
        store=store,
        items=items,
        class_names=named.class_names,
        notes=tuple(notes),
        groups={id_: group for id_, group in zip(ids, groups, strict=False) if group is not None},
        group_column=config.group_by if any(grouped) else "",
        synthetic=frozenset(ids[row] for row in synthetic),
    )


def _find_columns(files: Sequence[TableFile], config: DataConfig) -> Columns:
    """Return the columns of the files; their types from whichever file states them.

    All have the image column. A validation or test file without the label column is unlabelled.
    """
    stating = _stating(files)
    first = stating.schema()
    features: dict[str, Mapping[str, Any]] = {}
    for file in files:
        for name, kind in _features(file).items():
            features.setdefault(name, kind)
    image = _pick(stating, config.image_column, "image", _image_columns(first, features))
    coded = [name for name in first.names if features.get(name, {}).get("_type") == "ClassLabel"]
    if len(coded) != 1:
        coded = label_columns(coded or first.names)
    label = _pick(stating, config.label_column, "label", coded)
    for file in files:
        names = file.schema().names
        needed = (image, label) if file.split == TRAIN else (image,)
        if missing := [name for name in needed if name not in names]:
            raise DataError(
                f"{file.name} has no column {' and '.join(missing)} as {stating.name} has; its "
                f"columns are {', '.join(names)}. Give all tables the same columns"
            )
    has_ids = all(ID_NAME in file.schema().names for file in files)
    return Columns(image=image, label=label, id=ID_NAME if has_ids and label != ID_NAME else None)


def _stating(files: Sequence[TableFile]) -> TableFile:
    """Return the file whose columns count: of train, with most columns."""
    train = [file for file in files if file.split == TRAIN] or files
    return max(train, key=lambda file: len(file.schema().names))


def without_missing_columns(
    names: Sequence[str], config: DataConfig
) -> tuple[DataConfig, list[str]]:
    """Return the settings with "auto" for columns that a table does not have, and notes."""
    known = (AUTO, "", *names)
    missing = {
        setting: wanted
        for setting in ("image", "label", "split")
        if (wanted := getattr(config, f"{setting}_column")) not in known
    }
    return replace(
        config,
        image_column=AUTO if "image" in missing else config.image_column,
        label_column=AUTO if "label" in missing else config.label_column,
        split_column=AUTO if "split" in missing else config.split_column,
    ), [
        f"There is no column {wanted!r} (data.{setting}_column); another one is looked for."
        for setting, wanted in missing.items()
    ]


def names_in(file: TableFile, column: str) -> tuple[str, ...] | None:
    """Return the class names that a file has for a column, in the order of its integers.

    Raises:
        DataError: they are by number, and a number is missing.
    """
    names = _features(file).get(column, {}).get("names")
    if isinstance(names, Mapping):  # {"0": "cat", "1": "dog"}
        try:
            names = names_by_number(names)
        except (TypeError, ValueError) as error:
            raise DataError(
                f"cannot read the class names of the column {column!r} in {file.name}: "
                f"{reason_of(error)}. Save it again"
            ) from error
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        return None
    return tuple(class_name_of(name) for name in names) or None


def image_column(file: TableFile, wanted: str = AUTO) -> str:
    """Return the image column of one table; raise `DataError` if it is ambiguous or missing."""
    schema = file.schema()
    return _pick(file, wanted, "image", _image_columns(schema, _features(file)))


def _pick(file: TableFile, wanted: str, what: str, candidates: Sequence[str]) -> str:
    """Return the column set in the config, or the only candidate."""
    names = file.schema().names
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
        f"{file.name}: {problem}; the columns are {', '.join(names)}. Set data.{what}_column to "
        "one of them"
    )


def _features(file: TableFile) -> Mapping[str, Mapping[str, Any]]:
    """Return the Hugging Face features of a file; {} without any.

    Those stated beside an Arrow file come first, as in `datasets.load_from_disk`.
    """
    info = file.info
    if info is not None and (stated := _read_features(lambda: _json_of(info), "features")):
        return stated
    metadata = file.schema().metadata or {}
    return _read_features(lambda: parse_others_json(metadata[b"huggingface"]), "info", "features")


def _json_of(path: str) -> Any:
    return parse_others_json(read_bytes(path))


def _read_features(read: Callable[[], Any], *keys: str) -> Mapping[str, Mapping[str, Any]]:
    try:
        content = read()
        for key in keys:
            content = content[key]
        return {name: value for name, value in content.items() if isinstance(value, dict)}
    except (OSError, KeyError, ValueError, TypeError, AttributeError, RecursionError):
        return {}


def _image_columns(schema: Any, features: Mapping[str, Mapping[str, Any]]) -> list[str]:
    import pyarrow.types as kinds

    declared = [name for name in schema.names if features.get(name, {}).get("_type") == "Image"]
    structs, binaries, texts = [], [], []
    for column in schema:
        if kinds.is_struct(column.type) and column.type.get_field_index("bytes") >= 0:
            structs.append(column.name)
        elif kinds.is_binary(column.type) or kinds.is_large_binary(column.type):
            binaries.append(column.name)
        elif kinds.is_string(column.type) or kinds.is_large_string(column.type):
            texts.append(column.name)
    for candidates in (declared, structs, binaries):
        if candidates:
            return [name for name in IMAGE_NAMES if name in candidates][:1] or candidates
    return path_columns(texts)


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
            f"{counted(len(twice), 'id', 'ids')} in the column {ID_NAME!r} in more than one row: "
            f"{first_few(twice)}. Make them unique, or rename the column to use row numbers as ids"
        )
