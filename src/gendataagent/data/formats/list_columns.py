"""Which columns of a table are image, label and split: by what is in them, then by their names."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from gendataagent.config import AUTO, DataConfig
from gendataagent.core.errors import DataError
from gendataagent.data.formats.column_names import (
    ID_KEYS,
    IMAGE_KEYS,
    LABEL_KEYS,
    SPLIT_KEYS,
    key_of,
)
from gendataagent.data.formats.text_tables import ListFile
from gendataagent.data.index import TRAIN, first_few, split_of
from gendataagent.data.labels import LabelColumn, is_unlabelled

_WHOLE_NUMBER = re.compile(r"-?(0|[1-9]\d{0,14})(\.0+)?", re.ASCII)
_SAMPLE = 200

Leads = Callable[[ListFile, Any], Sequence[str]]


@dataclass(frozen=True, slots=True)
class ListColumns:
    """Names of the columns used.

    Args:
        label: None = the table has no labels. A tuple names columns of 0 and 1, one a class.
        split: None = the table has no splits of its own.
    """

    image: str
    label: str | tuple[str, ...] | None
    split: str | None


def image_column_of(table: ListFile, config: DataConfig, leads: Leads) -> str | None:
    """Return the column whose cells lead to image files; None if there is none.

    Args:
        leads: table and cell -> the files that the cell may mean.

    Raises:
        DataError: no such column as data.image_column, or several lead to different files.
    """
    if config.image_column != AUTO:
        return _named(table, config.image_column, "image")
    sample = range(0, len(table), max(1, len(table) // _SAMPLE))
    found: dict[str, list[Sequence[str]]] = {}
    for column, cells in table.columns.items():
        files = [leads(table, cells[row]) for row in sample]
        if any(files):
            found[column] = files
    columns = [column for column in found if key_of(column) not in LABEL_KEYS] or list(found)
    most = max((_share(found[column]) for column in columns), default=0)
    columns = [column for column in columns if _share(found[column]) > most / 2]
    for keys in (IMAGE_KEYS, ID_KEYS):
        columns = [column for column in columns if key_of(column) in keys] or columns
    if len({tuple(map(tuple, found[column])) for column in columns}) > 1:
        raise DataError(_ambiguous(table, columns, "image"))
    return columns[0] if columns else None


def other_columns(
    table: ListFile, image: str, config: DataConfig, *, labelled: bool = True
) -> ListColumns:
    """Return the columns of a table whose image column is known.

    Args:
        labelled: whether a table without a label column is an error.

    Raises:
        DataError: no such column as the settings name, or several could be meant.
    """
    split = split_column(table, config)
    label = _label_column(table, config, {image, split})
    if label is None and labelled:
        raise DataError(
            f"{table.name}: no label column was recognised; the columns are "
            f"{list_columns(table)}. Set data.label_column to one of them"
        )
    return ListColumns(image, label, split)


def labels_of(
    table: ListFile, column: str | tuple[str, ...] | None, split: str = TRAIN
) -> LabelColumn:
    """Return the labels of a table, as `labels.name_labels` takes them."""
    if isinstance(column, tuple):  # columns of 0 and 1
        rows = zip(*(map(_bit, table.columns[name]) for name in column), strict=True)
        values = [column[row.index(True)] for row in rows]
        return LabelColumn(table.name, split, values, where=table.where)
    names = table.class_names.get(str(column))
    cells = whole_numbers(table.columns[str(column)])
    return LabelColumn(table.name, split, cells, names, str(column), table.where)


def splits_of(table: ListFile, column: str | None) -> list[str] | None:
    """Return the split of each row by a column; None where there is none."""
    if column is None:
        return None
    return [split_of(str(cell).strip()) or TRAIN for cell in table.columns[column]]


def whole_numbers(cells: Sequence[Any]) -> list[Any]:
    """Return cells as integers if all are, also with the ".0" that pandas writes beside gaps.

    "007" stays text: it differs from "7".
    """
    texts = [cell.strip() for cell in cells if isinstance(cell, str) and cell.strip()]
    if not all(_WHOLE_NUMBER.fullmatch(text) for text in texts):
        return list(cells)
    return [int(float(c)) if isinstance(c, str) and c.strip() else c for c in cells]


def _label_column(
    table: ListFile, config: DataConfig, taken: set[str | None]
) -> str | tuple[str, ...] | None:
    if config.label_column != AUTO:
        return _named(table, config.label_column, "label")
    left = [column for column in table.columns if column not in taken]
    named = [column for column in left if key_of(column) in LABEL_KEYS]
    if len(named) > 1 and not _say_the_same(table, named):
        raise DataError(_ambiguous(table, named, "label"))
    if named:
        words = [c for c in named if c in table.class_names or not _is_numeric(table.columns[c])]
        return (words or named)[0]
    others = [column for column in left if key_of(column) not in ID_KEYS | IMAGE_KEYS]
    if len(others) > 1 and _are_indicators(table, others):
        return tuple(others)
    if not others and len(left) == 1:  # Image, Id: the id of a class
        others = left
    if len(others) == 1 and _repeats(table.columns[others[0]]):
        return others[0]
    return None


def split_column(table: ListFile, config: DataConfig) -> str | None:
    """Return the column that says the split of each row; None if there is none."""
    if not config.split_column:
        return None
    if config.split_column != AUTO:
        column = _named(table, config.split_column, "split")
    else:
        named = [column for column in table.columns if key_of(column) in SPLIT_KEYS]
        whole = [column for column in named if not _no_splits(table.columns[column])]
        exact = [column for column in named if key_of(column) == "split"]
        column = (whole or exact or [""])[0]
        if not column:
            return None
    if wrong := _no_splits(table.columns[column]):
        raise DataError(
            f"{table.name}: the column {column!r} says {first_few(wrong)}, allowed are train, "
            'validation and test. Set data.split_column to another column, or to "" for none'
        )
    return column


def _no_splits(cells: Sequence[Any]) -> list[str]:
    values = dict.fromkeys(str(cell).strip() for cell in cells)
    return [repr(value) for value in values if split_of(value) is None]


def _named(table: ListFile, column: str, what: str) -> str:
    if column in table.columns:
        return column
    raise DataError(
        f"{table.name}: no column {column!r} (data.{what}_column); the columns are "
        f"{list_columns(table)}. Set data.{what}_column to one of them"
    )


def _ambiguous(table: ListFile, columns: Sequence[str], what: str) -> str:
    return (
        f"{table.name}: {' and '.join(columns)} could each be the {what} column; the columns are "
        f"{list_columns(table)}. Set data.{what}_column to one of them"
    )


def list_columns(table: ListFile) -> str:
    """Return the columns of a table for a message."""
    return first_few(list(table.columns), at_most=20) or "none"


def _share(files: Sequence[Sequence[str]]) -> float:
    return sum(map(bool, files)) / max(1, len(files))


def _say_the_same(table: ListFile, columns: Sequence[str]) -> bool:
    """Return whether each value of one column goes with one value of each other, and back."""
    rows = set(zip(*(map(str, table.columns[column]) for column in columns), strict=True))
    return all(len(set(values)) == len(rows) for values in zip(*rows, strict=True))


def _is_numeric(cells: Sequence[Any]) -> bool:
    return all(is_unlabelled(c) or re.fullmatch(r"[-+]?\d+(\.0*)?", str(c).strip()) for c in cells)


def _are_indicators(table: ListFile, columns: Sequence[str]) -> bool:
    """Return whether every row has one 1 and else 0 in these columns, one a class."""
    rows = zip(*(map(_bit, table.columns[column]) for column in columns), strict=True)
    return len(table) > 0 and all(None not in row and sum(map(bool, row)) == 1 for row in rows)


def _bit(cell: Any) -> bool | None:
    return {"0": False, "0.0": False, "1": True, "1.0": True}.get(str(cell).strip())


def _repeats(cells: Sequence[Any]) -> bool:
    """Return whether values repeat as classes do; captions and measures differ in each row."""
    return len(cells) < 4 or len(set(map(str, cells))) <= len(cells) / 2
