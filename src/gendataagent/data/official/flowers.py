"""Flowers-102: jpg/image_00001.jpg, imagelabels.mat, setid.mat.

The archive has no class names; assets/flowers102.txt holds those on the authors' page, in label
order.
"""

from __future__ import annotations

import math
from pathlib import Path

from gendataagent.core.errors import DataError
from gendataagent.data.bundled import ASSETS
from gendataagent.data.index import TEST, TRAIN
from gendataagent.data.official.archive import Contents, Entry
from gendataagent.data.official.matlab import read_numbers

LABELS, SETS = "imagelabels.mat", "setid.mat"
# The paper trains on 2,040 images [S]: training and validation set together.
SPLITS = {"trnid": TRAIN, "valid": TRAIN, "tstid": TEST}


def read(base: Path) -> Contents:
    """Return the sets trnid and valid as train, tstid as test; classes in label order."""
    names = tuple((ASSETS / "flowers102.txt").read_text(encoding="utf-8").splitlines())
    labels = _integers(base / LABELS, "labels", len(names))
    entries = []
    for variable, split in SPLITS.items():
        for number in _integers(base / SETS, variable, len(labels)):
            entries.append(
                Entry(f"jpg/image_{number:05d}.jpg", names[labels[number - 1] - 1], split)
            )
    note = (
        "Train is the official training and validation set (trnid and valid) together, as in the "
        "paper."
    )
    return Contents(entries=entries, class_names=names, notes=(note,))


def _integers(path: Path, variable: str, highest: int) -> list[int]:
    """Return the integers of one variable of a MATLAB file, each in 1..highest."""
    try:
        found = read_numbers(path)
    except (OSError, ValueError) as error:
        raise DataError(f"cannot read {path}: {error}. Download the official file again") from error
    if variable not in found:
        raise DataError(
            f"{path} has the numeric variables {', '.join(sorted(found)) or '(none)'}, but no "
            f"{variable}; download the official file again"
        )
    values = found[variable]
    if not all(math.isfinite(v) and v == int(v) and 1 <= v <= highest for v in values):
        raise DataError(
            f"{path}: {variable} must hold integers in 1..{highest}, got {min(values):g}.."
            f"{max(values):g}; are {LABELS} and {SETS} from the same download?"
        )
    return [int(value) for value in values]
