"""The bundled images: a slice of CIFAR-10 that comes with the package."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

from gendataagent.core.errors import DataError

ASSETS = Path(str(files("gendataagent.data"))) / "assets"
SPLITS = ("train", "validation", "test")


def cifar10_parquet(split: str) -> Path:
    """Return the parquet file of one split: train, validation or test.

    Raises:
        DataError: no such split, or the file is missing from the installation.
    """
    if split not in SPLITS:
        raise DataError(
            f"the bundled cifar10 has no split {split!r}; choose one of {', '.join(SPLITS)}"
        )
    path = ASSETS / "cifar10" / f"{split}.parquet"
    if not path.is_file():
        raise DataError(
            f"the bundled images are missing at {path}; reinstall gendataagent, or write them with "
            "scripts/bundle/make_slice.py"
        )
    return path
