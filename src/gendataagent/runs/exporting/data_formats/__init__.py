"""The formats of an exported data set, one file each."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from gendataagent.runs.exporting.data_formats import (
    coco,
    csv_table,
    image_folder,
    parquet,
    webdataset,
)
from gendataagent.runs.exporting.rows import Row

OnRow = Callable[[], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class DataFormat:
    """One way to store labelled images.

    Args:
        write: writes rows, with the class names in label order, to an empty folder; calls its last
            argument after each image.
        files: split -> pattern of its files, for the card, where `datasets` reads the format.
        reads: the line of Python that reads it, with FOLDER for its path.
    """

    write: Callable[[Path, Sequence[Row], Sequence[str], OnRow], None]
    files: Callable[[str], str] | None
    reads: str


_LOADS = 'from datasets import load_dataset\n\ndata = load_dataset("FOLDER")'

DATA_FORMATS: Mapping[str, DataFormat] = {
    "imagefolder": DataFormat(
        write=image_folder.write, files=lambda split: f"{split}/**", reads=_LOADS
    ),
    "parquet": DataFormat(
        write=parquet.write, files=lambda split: f"data/{split}-*.parquet", reads=_LOADS
    ),
    "webdataset": DataFormat(
        write=webdataset.write, files=lambda split: f"{split}-*.tar", reads=_LOADS
    ),
    "coco": DataFormat(
        write=coco.write,
        files=None,
        reads='import json\n\ndata = json.load(open("FOLDER/annotations/train.json"))',
    ),
    "csv": DataFormat(
        write=csv_table.write,
        files=None,
        reads='import pandas\n\ndata = pandas.read_csv("FOLDER/labels.csv")',
    ),
}
