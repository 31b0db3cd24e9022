"""The images that tables list by path: CSV, TSV, Kaggle's layout, metadata.csv and .jsonl."""

from __future__ import annotations

import posixpath
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from gendataagent.config import DataConfig
from gendataagent.core.errors import DataError
from gendataagent.core.text import counted
from gendataagent.data.formats.column_names import box_columns
from gendataagent.data.formats.folder import FolderStore
from gendataagent.data.formats.list_columns import (
    ListColumns,
    image_column_of,
    labels_of,
    list_columns,
    other_columns,
    splits_of,
)
from gendataagent.data.formats.listed_files import ListedFiles
from gendataagent.data.formats.table_index import without_missing_columns
from gendataagent.data.formats.tables import with_splits
from gendataagent.data.formats.text_tables import ListFile, read_list
from gendataagent.data.formats.walk import posix_path
from gendataagent.data.index import (
    TRAIN,
    DatasetIndex,
    Item,
    Quarantined,
    first_few,
    split_of_file,
    splits_of_folders,
)
from gendataagent.data.labels import name_labels, unlabelled_notes
from gendataagent.data.synthetic_marks import marked_rows

MISSING_FILE = "but there is no such image"


@dataclass(frozen=True, slots=True)
class _Row:
    """An image that a table names; `where` says by which line."""

    path: str
    label: str | None
    split: str
    where: str
    group: str | None
    synthetic: bool


def index_lists(
    root: Path,
    names: Sequence[str],
    base: Path,
    images: Sequence[str],
    config: DataConfig,
    *,
    need_train: bool = True,
) -> DatasetIndex:
    """Return the images that tables list, in their order; ids are the paths of the images.

    Splits are those of a split column, else of the tables' names, else of the images' folders.
    Listed images that are missing are quarantined; the others below the folder are counted.

    Args:
        names: of the tables, relative to `root`.
        base: the folder in which paths start: `root`, or that of data.image_root.
        images: the image files below `base`.

    Raises:
        DataError: no images or labels in a table, columns that could mean different things, paths
            out of the folder, or an image with two labels.
    """
    files = ListedFiles(base, images)
    tables = [
        replace(read_list(str(root / name), posix_path(name)), folder=folder_of(name, root, base))
        for name in sorted(names)
    ]
    notes: list[str] = []
    if not need_train:
        config, notes = without_missing_columns(list(tables[0].columns), config)
    columns: dict[str, ListColumns] = {}
    for table in tables:
        image = image_column_of(table, config, files.candidates)
        if image is None:
            raise DataError(leads_nowhere(table, base))
        columns[table.name] = other_columns(table, image, config, labelled=len(tables) == 1)
    labelled = [table for table in tables if columns[table.name].label is not None]
    if not labelled:
        other_columns(tables[0], columns[tables[0].name].image, config)
    notes += [
        f"Left out {counted(len(table), 'row', 'rows')} of {table.name}: it has no label column."
        for table in tables
        if table not in labelled
    ]
    named, split_notes = with_splits(
        root, [(t.name, t.path, split_of_file(t.name)) for t in labelled], need_train=need_train
    )
    split_of_table = {file.name: file.split for file in named}
    labelled = [table for table in labelled if table.name in split_of_table]
    labels = name_labels(
        [labels_of(t, columns[t.name].label, split_of_table[t.name]) for t in labelled]
    )
    box_notes = [
        f"{table.name} has boxes ({first_few(boxes)}), which are not cut out: an image is the "
        "whole photograph. Boxes of COCO and Pascal VOC annotations are."
        for table in labelled
        if (boxes := box_columns(list(table.columns)))
    ]
    notes += [*split_notes, *labels.notes, *box_notes]
    rows: list[_Row] = []
    quarantined: list[Quarantined] = []
    for table, names_of_rows in zip(labelled, labels.labels, strict=True):
        own = columns[table.name]
        splits = splits_of(table, own.split) or [split_of_table[table.name]] * len(table)
        paths = files.resolve(table, own.image, splits)
        if own.split is None and len(labelled) == 1:
            splits = splits_of_folders(paths) or splits
        groups = table.columns.get(config.group_by, [None] * len(table))
        cells, made = table.columns[own.image], marked_rows(table.columns)
        for row, path in enumerate(paths):
            if path is None:
                reason = f"{table.where(row)} names it, {MISSING_FILE}"
                quarantined.append(Quarantined(str(cells[row]), reason))
                continue
            group = None if groups[row] in (None, "") else str(groups[row])
            where, synthetic = table.where(row), row in made
            rows.append(_Row(path, names_of_rows[row], splits[row], where, group, synthetic))
    if not rows and quarantined:
        raise DataError(leads_nowhere(labelled[0], base))
    rows, split_notes = _with_train(_once(rows, box_notes), root, need_train=need_train)
    notes += split_notes
    notes += unlabelled_notes(
        [row.label for row in rows],
        [row.split for row in rows],
        lambda row: rows[row].where,
        need_train=need_train,
    )
    listed = {row.path for row in rows}
    if others := [path for path in files.paths if path not in listed]:
        notes.append(
            f"Left out {counted(len(others), 'image', 'images')} without a label in "
            f"{first_few([table.name for table in labelled])}: {first_few(others)}."
        )
    return DatasetIndex(
        store=FolderStore(str(base), tuple(files.file(row.path) for row in rows)),
        items=tuple(
            Item(number, row.path, row.label, row.split)
            for number, row in enumerate(rows)
            if row.label is not None
        ),
        class_names=labels.class_names,
        quarantined=tuple(quarantined),
        notes=tuple(notes),
        groups={row.path: row.group for row in rows if row.group is not None},
        group_column=config.group_by if any(config.group_by in t.columns for t in labelled) else "",
        synthetic=frozenset(row.path for row in rows if row.synthetic),
    )


def folder_of(name: str, root: Path, base: Path) -> str:
    """Return the folder, relative to `base`, in which the paths of a table start."""
    return posixpath.dirname(posix_path(name)) if base == root else ""


def leads_nowhere(table: ListFile, base: Path) -> str:
    """Return the message for a table of which no column leads to an image."""
    first = {column: cells[0] for column, cells in table.columns.items() if cells}
    if not first:
        return f"{table.name} has no rows (columns {list_columns(table)}); save it again"
    shown = first_few([f"{column} ({cell!r})" for column, cell in first.items()], at_most=20)
    return (
        f"{table.name}: no column leads to an image below {base}: {shown}. Set data.image_root to "
        "the folder of the images (evaluate: --image-root), and data.image_column to the column "
        "of their paths, names or ids"
    )


def _once(rows: Sequence[_Row], box_notes: Sequence[str]) -> list[_Row]:
    """Return the rows without repetitions; raise `DataError` if they contradict each other."""
    first: dict[str, _Row] = {}
    for row in rows:
        other = first.setdefault(row.path, row)
        if (other.label, other.split) != (row.label, row.split):
            raise DataError(
                f"{other.where} and {row.where} both name {row.path}, as {other.label!r} in "
                f"{other.split} and as {row.label!r} in {row.split}. "
                f"{''.join(f'{note} ' for note in box_notes)}An image belongs to one class "
                "and one split: drop a row, or give one of the tables as data.path"
            )
    return list(first.values())


def _with_train(rows: list[_Row], root: Path, *, need_train: bool) -> tuple[list[_Row], list[str]]:
    """Return the rows with a train split if one is needed, and notes; see `tables.with_splits`."""
    splits = {row.split for row in rows}
    if not need_train or not rows or TRAIN in splits:
        return rows, []
    if len(splits) > 1:
        raise DataError(
            f"{root} has images of {' and '.join(sorted(splits))}, but none of train; name the "
            "training images train in the split column"
        )
    note = f"The only split, {splits.pop()}, is used for training."
    return [replace(row, split=TRAIN) for row in rows], [note]
