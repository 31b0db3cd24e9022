"""Effect of `training.batchnorm_from_real` on finished runs, with unchanged weights.

    python take_batchnorm.py OUT --split test > batchnorm.md

`OUT` is the folder of an experiment. For every finished run, the batch-normalisation statistics are
recomputed from its real training images; prints accuracy before and after, and the mean difference
of each arm with its 95 % interval. OUT is unchanged. With data in FOLDER/choice (write_data.py),
`--split test` is not the official test set.
"""

from __future__ import annotations

import argparse
import sys
from collections import defaultdict
from pathlib import Path

import torch

from gendataagent.config.run_config_file import read_run_config
from gendataagent.core.records import Evaluation
from gendataagent.core.run_folder import RunFolder
from gendataagent.data import load_data
from gendataagent.data.pixels import Pixels
from gendataagent.experiments import read_rows
from gendataagent.experiments.statistics import Difference, paired_difference
from gendataagent.runs.reload import load_classifier
from gendataagent.training.evaluation import evaluate
from gendataagent.training.trainer import Trainer

MEASURES = {"top-1 %": "top1", "worst class %": "worst_class_accuracy", "ECE %": "ece"}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("out", type=Path, help="folder of an experiment")
    parser.add_argument("--split", choices=("validation", "test"), default="validation")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    found: dict[str, dict[int, tuple[Evaluation, Evaluation]]] = defaultdict(dict)
    for row in read_rows(arguments.out / "results.parquet"):
        folder = arguments.out / "runs" / row["run"]
        found[row["arm"]][row["seed"]] = before_and_after(folder, arguments.split)
        print(f"{row['arm']}, seed {row['seed']}", file=sys.stderr)
    print(f"| arm | seeds | {' | '.join(f'{name} before | after - before' for name in MEASURES)} |")
    print("|" + "---|" * (2 + 2 * len(MEASURES)))
    for arm, by_seed in found.items():
        cells = []
        for attribute in MEASURES.values():
            before = {s: 100 * getattr(e, attribute) for s, (e, _) in by_seed.items()}
            after = {s: 100 * getattr(e, attribute) for s, (_, e) in by_seed.items()}
            cells.append(f"{sum(before.values()) / len(before):.1f}")
            cells.append(text_of(paired_difference(after, before)))
        print(f"| {arm} | {len(by_seed)} | {' | '.join(cells)} |")


def before_and_after(folder: Path, split: str) -> tuple[Evaluation, Evaluation]:
    """Return the evaluation of a run's classifier, before and with statistics of real images."""
    config = read_run_config(RunFolder.open(folder))
    splits = load_data(config.data, seed=config.seed)
    classifier = load_classifier(folder, device="cpu")
    trainer = Trainer(classifier, config.training, seed=config.seed)
    stored_px = trainer.augmenter.stored_px
    pixels = Pixels.from_images(getattr(splits, split), stored_px)
    before = evaluate(classifier, pixels, split)
    trainer.recompute_batchnorm(Pixels.from_images(splits.train, stored_px))
    return before, evaluate(classifier, pixels, split)


def text_of(difference: Difference) -> str:
    """Return mean and interval; one seed has none."""
    if difference.count == 1:
        return f"{difference.mean:+.1f}"
    return f"{difference.mean:+.1f} [{difference.low:+.1f}, {difference.high:+.1f}]"


if __name__ == "__main__":
    main()
