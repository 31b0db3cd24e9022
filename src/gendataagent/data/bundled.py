"""The bundled photographs: a slice of CIFAR-10 that is part of every installation."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

from gendataagent.core.errors import DataError

ASSETS = Path(str(files("gendataagent.data"))) / "assets"
SPLITS = ("train", "validation", "test")


def cifar10_parquet(split: str) -> Path:
    """Return the parquet file of one split: train, validation or test.

    Raises:
        DataError: there is no such split, or the installation lacks the file.
    """
    if split not in SPLITS:
        raise DataError(
            f"the bundled cifar10 has no split {split!r}; choose one of {', '.join(SPLITS)}"
        )
    path = ASSETS / "cifar10" / f"{split}.parquet"
    if not path.is_file():
        raise DataError(
            f"the bundled images are not at {path}; they are part of every release: reinstall "
            "gendataagent, or write them with scripts/bundle/make_slice.py"
        )
    return path
