"""CSV: images by split, and one `labels.csv` with path, label (the class by name) and split."""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from pathlib import Path

from gendataagent.runs.exporting.rows import COLUMNS, Row, by_split, encoded

TABLE = "labels.csv"


def write(
    folder: Path, rows: Sequence[Row], class_names: Sequence[str], on_row: Callable[[], None]
) -> None:
    """Write image files by split, and the table: UTF-8, lines ended by a line feed."""
    names = [name for name in COLUMNS if name != "class_name"]
    with open(folder / TABLE, "w", encoding="utf-8", newline="") as stream:
        table = csv.writer(stream, lineterminator="\n")
        table.writerow(["path", "label", "split", *names])
        for split, own in by_split(rows).items():
            (folder / split).mkdir()
            for row, image in encoded(own):
                path = f"{split}/{row.name}{image.suffix}"
                (folder / path).write_bytes(image.content)
                values = [row.values[name] for name in names]
                table.writerow([path, class_names[row.label], split, *values])
                on_row()
