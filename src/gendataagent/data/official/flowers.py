"""Flowers-102: jpg/image_00001.jpg, imagelabels.mat, setid.mat.

The archive has no class names; assets/flowers102.txt holds those on the authors' page, in label
order.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from gendataagent.core.errors import DataError
from gendataagent.data.bundled import ASSETS
from gendataagent.data.index import TEST, TRAIN
from gendataagent.data.official.archive import Contents, Entry

LABELS, SETS = "imagelabels.mat", "setid.mat"
# The paper trains on 2,040 images [S]: training and validation set together.
SPLITS = {"trnid": TRAIN, "valid": TRAIN, "tstid": TEST}
# The official files have 1 and 15 kB. zlib expands by up to 1,032, so this bounds memory as well.
MAX_BYTES = 256 << 10


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
    from scipy.io import loadmat, whosmat

    try:
        if path.stat().st_size > MAX_BYTES:
            raise ValueError(f"larger than {MAX_BYTES >> 10} kB")
        found = sorted(name for name, _, _ in whosmat(path))
        values = loadmat(path, variable_names=[variable]).get(variable)
    except Exception as error:  # scipy raises many types on damaged files
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DataError(
            f"cannot read {path}: {reason}. Download the official file again"
        ) from error
    if values is None:
        raise DataError(
            f"{path} has the variables {', '.join(found) or '(none)'}, but no {variable}; download "
            "the official file again"
        )
    if not isinstance(values, np.ndarray) or values.dtype.kind not in "iuf":
        kind = getattr(values, "dtype", type(values).__name__)
        raise DataError(
            f"{path}: {variable} must be a numeric array, got {kind}; download the official file "
            "again"
        )
    if values.size and not (
        (values == np.floor(values)).all() and values.min() >= 1 and values.max() <= highest
    ):
        raise DataError(
            f"{path}: {variable} must hold integers in 1..{highest}, got {values.min():g}.."
            f"{values.max():g}; are {LABELS} and {SETS} from the same download?"
        )
    return [int(value) for value in values.ravel(order="F")]
