"""Flowers-102: jpg/image_00001.jpg, imagelabels.mat, setid.mat.

The archive holds no class names; those of the 102 labels are the names the authors list on their
page, in label order, in assets/flowers102.txt.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from gendataagent.core.errors import DataError
from gendataagent.data.bundled import ASSETS
from gendataagent.data.listing import TEST, TRAIN
from gendataagent.data.official.archive import Contents, Entry
from gendataagent.data.official.matfile import read_numbers

LABELS, SETS = "imagelabels.mat", "setid.mat"
# The paper trains on 2,040 images [S], which is training and validation set together.
SPLITS = {"trnid": TRAIN, "valid": TRAIN, "tstid": TEST}


def read(base: Path) -> Contents:
    """Return the sets trnid and valid as train, tstid as test; classes in label order."""
    names = tuple((ASSETS / "flowers102.txt").read_text(encoding="utf-8").splitlines())
    labels = _numbers(base / LABELS, "labels", len(names))
    entries = []
    for variable, split in SPLITS.items():
        for number in _numbers(base / SETS, variable, len(labels)):
            entries.append(
                Entry(f"jpg/image_{number:05d}.jpg", names[labels[number - 1] - 1], split)
            )
    note = (
        "Train is the official training and validation set together (trnid and valid), as the "
        "paper's count shows."
    )
    return Contents(entries=entries, class_names=names, notes=(note,))


def _numbers(path: Path, variable: str, highest: int) -> list[int]:
    """Return a variable's whole numbers, each in 1..highest."""
    found = read_numbers(path)
    if variable not in found:
        raise DataError(
            f"{path} holds {', '.join(sorted(found)) or 'nothing'}, but no {variable}; download "
            "the official file again"
        )
    values = found[variable]
    if values.size and not (
        (values == np.floor(values)).all() and values.min() >= 1 and values.max() <= highest
    ):
        raise DataError(
            f"{path}: {variable} must hold whole numbers in 1..{highest}, got "
            f"{values.min():g}..{values.max():g}; do {LABELS} and {SETS} belong together?"
        )
    return [int(value) for value in values]
