"""How many images that `retrieval` found are of the class that they were labelled as.

    python retrieved_labels.py --data PACKAGE --unlabelled FOLDER/unlabelled RUN...

PACKAGE and FOLDER are those of write_data.py. Prints for each run the kept images of its first
round, and the share whose true class is that of their source.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import pyarrow.parquet as pq
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "bundle"))

import cifar10

from gendataagent.generation.retrieval import ORIGINAL


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--unlabelled", type=Path, required=True)
    arguments = parser.parse_args()
    labels = cifar10.read_package(arguments.data).train_labels
    table = pq.read_table(arguments.unlabelled / "train.parquet", columns=["id"])
    rows = [int(id_.rpartition("-")[2]) for id_ in table.column("id").to_pylist()]
    for run in arguments.runs:
        pool = run / "pool" / "000"
        kept = [row for row in pq.read_table(pool / "metadata.parquet").to_pylist() if row["kept"]]
        right = 0
        for row in kept:
            text = Image.open(pool / Path(row["file_name"]).name).info[ORIGINAL]
            place = int(text.rpartition("#")[2])
            right += cifar10.CLASS_NAMES[labels[rows[place]]] == row["class_name"]
        print(f"{run.name}: {len(kept)} images, {right / len(kept):.1%} of the class of its source")


if __name__ == "__main__":
    main()
