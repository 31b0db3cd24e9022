"""Write the bundled real images: a small, fixed part of CIFAR-10 as parquet files.

    python make_slice.py --data DIR --to src/gendataagent/data/assets/cifar10

Train and validation come from train rows 40,000-49,999, which the bundled generator never saw: of
each class the first rows without near-duplicates of test images, first for training, then for
validation (without near-duplicates of the slice's training images). Test: the first rows of each
class of the official test set.
"""

from __future__ import annotations

import argparse
import io
from pathlib import Path

import cifar10
import numpy as np
from datasets import ClassLabel, Dataset, Features, Value
from datasets import Image as ImageFeature
from PIL import Image

TRAIN_A_CLASS = 100
VALIDATION_A_CLASS = 50
TEST_A_CLASS = 150

FEATURES = Features(
    {
        "id": Value("string"),
        "image": ImageFeature(),
        "label": ClassLabel(names=list(cifar10.CLASS_NAMES)),
    }
)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="unpacked npm package")
    parser.add_argument("--to", type=Path, required=True, help="folder to write into")
    arguments = parser.parse_args()
    data = cifar10.read_package(arguments.data)
    user_rows = cifar10.clean_rows(data, cifar10.USER_ROWS)
    train = first_rows_a_class(data.train_labels, user_rows, TRAIN_A_CLASS)
    rest = np.setdiff1d(user_rows, train)
    repeats = cifar10.near_duplicate_rows(data.train_NHWC[rest], data.train_NHWC[train])
    rest = np.delete(rest, repeats)
    validation = first_rows_a_class(data.train_labels, rest, VALIDATION_A_CLASS)
    test = first_rows_a_class(data.test_labels, np.arange(10_000), TEST_A_CLASS)
    arguments.to.mkdir(parents=True, exist_ok=True)
    for name, part, images, labels, rows in (
        ("train", "train", data.train_NHWC, data.train_labels, train),
        ("validation", "train", data.train_NHWC, data.train_labels, validation),
        ("test", "test", data.test_NHWC, data.test_labels, test),
    ):
        write_table(arguments.to / f"{name}.parquet", part, images, labels, rows)


def write_table(
    path: Path,
    part: str,
    images: cifar10.Uint8Array,
    labels: cifar10.IntArray,
    rows: cifar10.IntArray,
) -> None:
    """Write images with ids, labels and class names as parquet; `part` is train or test."""
    table = {
        "id": [f"cifar10-{part}-{row}" for row in rows],
        "image": [{"bytes": png_bytes(images[row]), "path": None} for row in rows],
        "label": labels[rows].tolist(),
    }
    Dataset.from_dict(table, features=FEATURES).to_parquet(path)
    print(f"{path.name}: {len(rows)} images, {path.stat().st_size / 2**20:.2f} MiB")


def first_rows_a_class(
    labels: cifar10.IntArray, rows: cifar10.IntArray, count: int
) -> cifar10.IntArray:
    """The first `count` of `rows` of every class, in ascending order."""
    chosen = [rows[labels[rows] == label][:count] for label in range(len(cifar10.CLASS_NAMES))]
    short = [cifar10.CLASS_NAMES[i] for i, found in enumerate(chosen) if len(found) < count]
    if short:
        raise ValueError(f"fewer than {count} images of {', '.join(short)}: ask for fewer")
    return np.sort(np.concatenate(chosen))


def png_bytes(image_HWC: cifar10.Uint8Array) -> bytes:
    """The image as a PNG file, losslessly."""
    buffer = io.BytesIO()
    Image.fromarray(image_HWC).save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()


if __name__ == "__main__":
    main()
