"""Where the bundled model and pictures lie."""

from __future__ import annotations

from pathlib import Path

from gendataagent.errors import DataError, ModelError

ASSETS = Path(__file__).resolve().parents[2] / "assets"
MODEL_NAME = "tiny-sd"
SPLITS = ("train", "validation", "test")


def model_folder() -> Path:
    """Folder of the bundled Stable Diffusion, for any diffusers `from_pretrained`.

    Raises:
        ModelError: the installation lacks it.
    """
    folder = ASSETS / MODEL_NAME
    if not (folder / "model_index.json").is_file():
        raise ModelError(
            f"the bundled model {MODEL_NAME} is not in {folder}; it is part of every release: "
            "reinstall gendataagent, or train it with scripts/bundle/train_tiny_sd.py"
        )
    return folder


def cifar10_parquet(split: str) -> Path:
    """Parquet file of the bundled CIFAR-10 slice; `split` is train, validation or test.

    Raises:
        DataError: there is no such split, or the installation lacks it.
    """
    if split not in SPLITS:
        raise DataError(
            f"the bundled cifar10 has no split {split!r}; choose one of {', '.join(SPLITS)}"
        )
    path = ASSETS / "cifar10" / f"{split}.parquet"
    if not path.is_file():
        raise DataError(
            f"the bundled pictures are not at {path}; they are part of every release: reinstall "
            "gendataagent, or write them with scripts/bundle/make_slice.py"
        )
    return path
