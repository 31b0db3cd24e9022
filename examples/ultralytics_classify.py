"""Real and kept images of a run as training images of Ultralytics, and its results read back.

pip install ultralytics
python examples/ultralytics_classify.py runs/first runs/yolo 20

Trains YOLO twice, without and with the synthetic images, for as many optimiser steps, and tests
both on the run's test images. The folder of an `Agent` has none: use a complete run.
"""

import csv
import shutil
import sys
from pathlib import Path

import pyarrow.parquet as pq
from ultralytics import YOLO

from gendataagent.runs.exporting.datasets import export_data

SIZE_PX = 32  # 224 for photographs
START = "yolo11n-cls.yaml"  # from scratch; "yolo11n-cls.pt" is downloaded and starts from ImageNet


def main(run: str, out: str, epochs: int) -> None:
    folder = Path(out).resolve()
    both = folder / "images"
    exported = export_data(run, "imagefolder", both)
    real_alone = without_synthetic(both, folder / "real")
    # An epoch over more images has more steps: so many epochs have as many.
    longer = round(epochs * (1 + exported.synthetic / count(real_alone / "train")))
    for name, images, length in (("real", real_alone, longer), ("both", both, epochs)):
        trained = train(images, folder, name, length)
        print(f"{name}: top-1 {trained:.1%}, {count(images / 'train')} images, {length} epochs")


def without_synthetic(both: Path, out: Path) -> Path:
    """Copy an exported image folder without its synthetic images, which its table names."""
    shutil.rmtree(out, ignore_errors=True)
    shutil.copytree(both, out)
    table = pq.read_table(both / "train" / "metadata.parquet", columns=["file_name", "source"])
    for row in table.to_pylist():
        if row["source"] == "synthetic":
            (out / "train" / row["file_name"]).unlink()
    return out


def count(folder: Path) -> int:
    return sum(path.suffix != ".parquet" for path in folder.rglob("*.*"))


def train(images: Path, out: Path, name: str, epochs: int) -> float:
    """Train on `train`, choose by `validation`, and return the top-1 on `test`."""
    model = YOLO(START)
    model.train(
        data=str(images), epochs=epochs, imgsz=SIZE_PX, batch=64, workers=0, seed=0, plots=False,
        project=str(out), name=name, exist_ok=True,
    )  # fmt: skip
    with open(out / name / "results.csv", encoding="utf-8") as stream:
        last = list(csv.DictReader(stream))[-1]
    print(f"{name}: top-1 on validation images {float(last['metrics/accuracy_top1']):.1%}")
    best = YOLO(out / name / "weights" / "best.pt")
    tested = best.val(data=str(images), split="test", imgsz=SIZE_PX, workers=0, plots=False)
    return float(tested.top1)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
