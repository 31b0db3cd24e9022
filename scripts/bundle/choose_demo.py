"""Choose the demo's settings on photographs outside the bundled training and test sets.

    python choose_demo.py --data DIR --out runs/choose --seeds 2 --jobs 2

Trains the preset `demo` and variants of it on the bundled training images and measures them on
3,000 other CIFAR-10 training images (from rows 40,000-49,999, without the bundled slice and
near-duplicates of it or of the test set). The official test images are not read. An interrupted run
resumes.
"""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cifar10
import numpy as np
import pyarrow.parquet as pq
from make_slice import first_rows_a_class, write_table

from gendataagent.cli.console import ConsoleProgress
from gendataagent.config.presets import preset_settings
from gendataagent.config.settings import merged
from gendataagent.data.bundled import cifar10_parquet
from gendataagent.experiments import Arm, Benchmark, run_experiment
from gendataagent.experiments.tables import differences_table, measures_table

A_CLASS = 300
DEMO = preset_settings("demo")
# The demo is the paper's loop with these sections changed, so they override the strategy.
CHANGED = {name: DEMO[name] for name in ("agent", "selection", "prompting", "filter", "adaptation")}
BASE = {name: section for name, section in DEMO.items() if name != "adaptation"}


def variant(name: str, **settings: Mapping[str, Any]) -> Arm:
    """The demo with a few settings changed."""
    return Arm(name=name, strategy="gendataagent", settings=merged(CHANGED, settings))


ARMS = (
    Arm(name="real", strategy="only-real"),
    variant("guidance 3", generation={"guidance_scale": 3.0}),
    variant("guidance 7.5", generation={"guidance_scale": 7.5}),
    variant("guidance 7.5, agreement", generation={"guidance_scale": 7.5},
            filter={"by": "agreement"}),
    variant("feedback", generation={"feedback": "entropy"}),
    Arm(name="guided", strategy="gendataagent-guided",
        settings={"adaptation": DEMO["adaptation"]}),
)  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="unpacked npm package")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--arms", help="comma-separated names; all if left out")
    arguments = parser.parse_args()
    wanted = arguments.arms.split(",") if arguments.arms else [arm.name for arm in ARMS]
    arms = tuple(arm for arm in ARMS if arm.name in wanted)
    data = arguments.out / "data"
    if not (data / "test.parquet").exists():
        write_data(cifar10.read_package(arguments.data), data)
    benchmark = Benchmark(
        name="choose-demo",
        about="settings of the demo",
        base=merged(BASE, {"data": {"path": str(data)}, "agent": {"baseline": False}}),
        arms=arms,
        baseline=arms[0].name,
        budget=2.0,
        seeds=tuple(range(arguments.seeds)),
    )
    rows = run_experiment(benchmark, arguments.out, jobs=arguments.jobs, progress=ConsoleProgress())
    print(f"on {A_CLASS} other photographs per class, from neither the training nor the test set")
    print(measures_table(rows).markdown())
    for key in ("top1", "worst_class", "ece"):
        print(differences_table(rows, key, [arm.name for arm in arms[:2]]).markdown())


def write_data(package: cifar10.Cifar10, folder: Path) -> None:
    """Write the bundled train and validation images, with other images as the test set."""
    folder.mkdir(parents=True, exist_ok=True)
    taken = []
    for split in ("train", "validation"):
        shutil.copy(cifar10_parquet(split), folder / f"{split}.parquet")
        ids = pq.read_table(cifar10_parquet(split), columns=["id"])["id"].to_pylist()
        taken += [int(image_id.rsplit("-", 1)[1]) for image_id in ids]
    rows = np.setdiff1d(cifar10.clean_rows(package, cifar10.USER_ROWS), taken)
    repeats = cifar10.near_duplicate_rows(package.train_NHWC[rows], package.train_NHWC[taken])
    rows = first_rows_a_class(package.train_labels, np.delete(rows, repeats), A_CLASS)
    write_table(folder / "test.parquet", "train", package.train_NHWC, package.train_labels, rows)


if __name__ == "__main__":
    main()
