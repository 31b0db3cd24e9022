"""Image folders: split/class/image, with `metadata.parquet` in each split for everything else.

torchvision and people read the class from the folder; Hugging Face's "imagefolder" reads the label
from the table, a ClassLabel with the class names in the run's order.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from urllib.parse import quote

import pyarrow as pa
import pyarrow.parquet as pq

from gendataagent.runs.exporting.data_formats.columns import schema
from gendataagent.runs.exporting.rows import COLUMNS, Row, by_split, encoded

METADATA = "metadata.parquet"
_SAFE = " -_+,()'&."
_NOT_FIRST, _NOT_LAST = (" ", ".", "_"), (" ", ".")
_LONGEST = 200  # bytes; file systems allow 255


def write(
    folder: Path, rows: Sequence[Row], class_names: Sequence[str], on_row: Callable[[], None]
) -> None:
    """Write image files in class folders, and a table for each split."""
    names = folder_names(class_names)
    for split, own in by_split(rows).items():
        listed = []
        for row, image in encoded(own):
            path = folder / split / names[row.label] / f"{row.name}{image.suffix}"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(image.content)
            where = path.relative_to(folder / split).as_posix()
            listed.append({"file_name": where, "label": row.label, **row.values})
            on_row()
        columns = {"file_name": "string", "label": "int64", **COLUMNS}
        table = pa.Table.from_pylist(listed, schema=schema(columns, class_names))
        pq.write_table(table, folder / split / METADATA)


def folder_names(class_names: Sequence[str]) -> list[str]:
    """Return a folder name for each class: its own where every file system and reader takes it.

    Other characters are percent-encoded, as in addresses. Names that differ only in case, and long
    ones, get a number.
    """
    found: list[str] = []
    taken: set[str] = set()
    for number, name in enumerate(class_names):
        letters = [
            letter if letter.isalnum() or letter in _SAFE else quote(letter, safe="")
            for letter in name
        ]
        if name[:1] in _NOT_FIRST:  # hidden, or skipped by readers
            letters[:1] = [f"%{ord(letter):02X}" for letter in name[:1]]
        if len(name) > 1 and name[-1] in _NOT_LAST:
            letters[-1] = f"%{ord(name[-1]):02X}"
        safe = "".join(letters) or "%"
        if safe.casefold() in taken or len(safe.encode()) > _LONGEST:
            safe = f"{safe[: _LONGEST // 4]}%{number}"
        taken.add(safe.casefold())
        found.append(safe)
    return found
