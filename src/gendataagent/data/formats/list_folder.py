"""A folder with tables beside its images: which of them say what the images are."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from gendataagent.config import DataConfig
from gendataagent.core.errors import DataError
from gendataagent.data.class_names import name_key
from gendataagent.data.formats.folder import index_folder
from gendataagent.data.formats.list_columns import (
    image_column_of,
    list_columns,
    other_columns,
    split_column,
)
from gendataagent.data.formats.list_index import folder_of, index_lists, leads_nowhere
from gendataagent.data.formats.listed_files import ListedFiles
from gendataagent.data.formats.text_tables import ListFile, is_list, read_list
from gendataagent.data.formats.walk import Found, posix_path
from gendataagent.data.index import DatasetIndex, first_few

TABLE = "table"
_SUBMISSION = re.compile("submission", re.IGNORECASE)  # Kaggle's form for predictions
_ROWS_TO_LOOK_AT = 1000


def index_listed_folder(
    root: Path,
    base: Path,
    found: Found,
    images: Sequence[str],
    config: DataConfig,
    *,
    need_train: bool = True,
) -> DatasetIndex | None:
    """Return the images of a folder by the tables in it; None if its class folders count.

    Tables count where no class folders are, or with data.layout = table or data.image_root. A table
    that repeats the class folders is left aside. The metadata.csv, .jsonl or .parquet of a Hugging
    Face image folder counts before its folders, as there.

    Args:
        base: the folder in which paths start: `root`, or that of data.image_root.
        found: the files below `root`.
        images: the image files below `base`.

    Raises:
        DataError: a table lists the images of class folders but has other classes; or there are
            neither class folders nor a table that leads to images.
    """
    names = [name for name in (*found.others, *found.tables) if is_list(name)]
    forms = [name for name in names if _SUBMISSION.search(Path(name).name)]
    names = sorted(set(names) - set(forms))
    wanted = config.layout == TABLE
    if not names or not images:
        if wanted:
            raise DataError(
                f"data.layout is table, but {root} holds no table (.csv, .tsv, .jsonl) beside "
                "images; give the table as data.path, and the folder of the images as "
                "data.image_root"
            )
        return None
    classes = {} if wanted or config.image_root else _class_folders(root, found, config)
    files = ListedFiles(base, images)
    tables, reasons, unclear = _leading(root, base, names, files, config)
    found.unreadable += unclear
    if own := {t: c for t, c in tables.items() if _is_metadata(t, c, config)}:
        tables, classes = own, {}
    others = [t for t, column in tables.items() if not _repeats(t, column, files, classes)]
    if classes and others:
        folders = first_few(sorted(set(classes.values())))
        raise DataError(
            f"{root / others[0].name} lists the images (columns {list_columns(others[0])}), but "
            f"says other classes than their folders ({folders}). Give the table as data.path, or "
            "set data.layout=table, to use it; set data.layout=folder to use the folders"
        )
    if classes and not any(split_column(table, config) for table in tables):
        return None
    if not tables:
        raise DataError(f"{root} has no class folders, and {'; '.join(reasons)}")
    chosen = [table.name for table in tables]
    used = [name for name in names if posix_path(name) in chosen]
    index = index_lists(root, used, base, images, config, need_train=need_train)
    rest = replace(found, others=[name for name in found.others if name not in (*used, *forms)])
    notes = [f"Read the labels in {first_few(chosen)} (data.layout = table).", *rest.notes()]
    if forms:
        notes.append(f"Ignored forms for predictions: {first_few(forms)}.")
    return replace(
        index,
        notes=(*notes, *index.notes),
        quarantined=(*found.quarantined, *index.quarantined),
    )


def _class_folders(root: Path, found: Found, config: DataConfig) -> Mapping[str, str]:
    """Return image -> class by its folder; {} if the folders are no classes, or only one."""
    try:
        index = index_folder(root, found, config.class_folder, need_train=False)
    except DataError:
        return {}
    classes = {item.id: item.class_name for item in index.items}
    return classes if len(set(classes.values())) > 1 else {}


def _leading(
    root: Path, base: Path, names: Sequence[str], files: ListedFiles, config: DataConfig
) -> tuple[dict[ListFile, str], list[str], list[str]]:
    """Return the tables that lead to images with their image column, why others do not, and which
    of these reasons are faults of tables that may have been meant.
    """
    tables: dict[ListFile, str] = {}
    reasons, unclear = [], []
    for name in names:
        try:
            table = read_list(str(root / name), posix_path(name), rows=_ROWS_TO_LOOK_AT)
        except DataError as error:
            if _is_named_metadata(name):  # its labels would come before the folders
                raise DataError(
                    f"{error}; or set data.layout=folder to use the folders without it"
                ) from error
            reasons.append(str(error))
            unclear.append(str(error))
            continue
        try:
            table = replace(table, folder=folder_of(name, root, base))
            column = image_column_of(table, config, files.candidates)
        except DataError as error:
            reasons.append(str(error))
            unclear.append(str(error))
            continue
        if column is None or not any(files.candidates(table, c) for c in table.columns[column]):
            reasons.append(leads_nowhere(table, base))
        else:
            tables[table] = column
    return tables, reasons, unclear


def _is_metadata(table: ListFile, image: str, config: DataConfig) -> bool:
    """Return whether a table has the labels of a Hugging Face image folder; they come first."""
    if not _is_named_metadata(table.name) or not image.endswith("file_name"):
        return False
    return other_columns(table, image, config, labelled=False).label is not None


def _is_named_metadata(name: str) -> bool:
    return Path(name).stem.lower() == "metadata"


def _repeats(table: ListFile, image: str, files: ListedFiles, classes: Mapping[str, str]) -> bool:
    """Return whether a column of a table says the same classes as the folders."""
    rows = {
        row: classes[paths[0]]
        for row, cell in enumerate(table.columns[image])
        if len(paths := files.candidates(table, cell)) == 1 and paths[0] in classes
    }
    return bool(rows) and any(
        all(name_key(str(cells[row])) == name_key(name) for row, name in rows.items())
        for column, cells in table.columns.items()
        if column != image
    )
