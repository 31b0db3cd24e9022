"""Write the photographs of the few-shot CIFAR-10 bench: a larger user's world than is bundled.

    python write_data.py --data PACKAGE --to FOLDER

Two data folders, each with train, validation and test as parquet files:

    FOLDER/bench    test = the first 500 of each class of the official test set
    FOLDER/choice   test = 300 other photographs of each class, of train rows 40,000-49,999:
                    for choosing settings, so that the official test set is not read for it

Train (the 450 of each class that `data.train_per_class` draws from, by seed) and validation (100 of
each class) are the same in both, of rows 40,000-49,999, which the bundled generator never saw. What
repeats a test photograph is left out, and of each later part what repeats an earlier one.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "bundle"))

import cifar10
from make_slice import first_rows_a_class, write_table

TRAIN_A_CLASS = 450
VALIDATION_A_CLASS = 100
CHOICE_A_CLASS = 300
TEST_A_CLASS = 500


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="unpacked npm package")
    parser.add_argument("--to", type=Path, required=True, help="folder to write into")
    arguments = parser.parse_args()
    data = cifar10.read_package(arguments.data)
    images, labels = data.train_NHWC, data.train_labels
    rows = cifar10.clean_rows(data, cifar10.USER_ROWS)
    print(f"{len(cifar10.USER_ROWS) - len(rows)} photographs repeat a test photograph: left out")
    parts = {}
    for name, count in (
        ("train", TRAIN_A_CLASS),
        ("validation", VALIDATION_A_CLASS),
        ("choice", CHOICE_A_CLASS),
    ):
        parts[name] = first_rows_a_class(labels, rows, count)
        rows = np.setdiff1d(rows, parts[name])
        repeats = cifar10.near_duplicate_rows(images[rows], images[parts[name]])
        print(f"{len(repeats)} photographs repeat one of {name}: left out of what follows")
        rows = np.delete(rows, repeats)
    test = first_rows_a_class(data.test_labels, np.arange(len(data.test_labels)), TEST_A_CLASS)
    bench, choice = arguments.to / "bench", arguments.to / "choice"
    for folder in (bench, choice):
        folder.mkdir(parents=True, exist_ok=True)
    for name in ("train", "validation"):
        write_table(bench / f"{name}.parquet", "train", images, labels, parts[name])
        shutil.copy(bench / f"{name}.parquet", choice / f"{name}.parquet")
    write_table(bench / "test.parquet", "test", data.test_NHWC, data.test_labels, test)
    write_table(choice / "test.parquet", "train", images, labels, parts["choice"])


if __name__ == "__main__":
    main()
