"""Upper bound of a filter: keep only images that an independent classifier recognises.

    python perfect_filter.py OUT --judge FILE.pth --seeds 5 > perfect-filter.md

Takes the finished `real-fake` runs of an experiment in `OUT` and repeats the training on (a) the
images that the judge (see judge_network.py) recognises as their class, (b) the same number drawn at
random. Same real images, seeds, steps, recipe and test images. The judge was trained on ten times
more photographs than a run has, so no filter inside a run can match it.
"""

from __future__ import annotations

import argparse
import random
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

from gendataagent.config.run_config_file import read_run_config

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "bundle"))

from judge_network import ResNet56, classify, load_judge

from gendataagent.agent.pool import Pool
from gendataagent.core.records import derive_seed
from gendataagent.core.run_folder import RunFolder
from gendataagent.data import load_data
from gendataagent.data.pixels import Pixels
from gendataagent.experiments import read_rows
from gendataagent.experiments.tables import differences_table, measures_table
from gendataagent.training.backbones import build_classifier
from gendataagent.training.evaluation import evaluate
from gendataagent.training.trainer import Trainer

ARM = "real-fake"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("out", type=Path, help="folder of an experiment")
    parser.add_argument("--judge", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=5)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    judge = load_judge(arguments.judge)
    rows = []
    for row in read_rows(arguments.out / "results.parquet"):
        if row["arm"] == ARM and row["seed"] < arguments.seeds:
            rows.append(row)
            rows += train_on_parts(arguments.out / "runs" / row["run"], row["seed"], judge)
            print(f"seed {row['seed']} done", file=sys.stderr)
    if not rows:
        raise SystemExit(
            f"{arguments.out} has no finished {ARM} runs; run `gendataagent experiment` first"
        )
    print(measures_table(rows).markdown())
    for key in ("top1", "worst_class"):
        print(differences_table(rows, key, [ARM, "random part"]).markdown())


def train_on_parts(folder: Path, seed: int, judge: ResNet56) -> list[dict[str, object]]:
    """Return a row each for training on the recognised images and on a random part as large."""
    run = RunFolder.open(folder)
    config = read_run_config(run)
    splits = load_data(config.data, seed=seed)
    made = Pool(run, splits.class_names).kept([0])
    classes = classify(judge, [made.image(index) for index in range(len(made))])
    recognised = [i for i, found in enumerate(classes) if found == made.labels[i]]
    at_random = sorted(random.Random(seed).sample(range(len(made)), len(recognised)))
    rows = []
    for arm, part in (("recognised part", recognised), ("random part", at_random)):
        classifier = build_classifier(
            config.classifier, splits.class_names, seed=derive_seed(seed, "classifier")
        )
        trainer = Trainer(classifier, config.training, seed=seed)
        stored_px = trainer.augmenter.stored_px
        real = Pixels.from_images(splits.train, stored_px)
        synthetic = subset(Pixels.from_images(made, stored_px), part)
        for epoch in range(1, config.training.epochs + 1):
            trainer.fit_epoch(epoch, real, synthetic)
        test = evaluate(classifier, Pixels.from_images(splits.test, stored_px), "test")
        rows.append(
            {"arm": arm, "seed": seed, "run": folder.name, "top1": test.top1, "ece": test.ece,
             "worst_class": test.worst_class_accuracy, "disparity": test.worst_case_disparity,
             "generated": len(made), "kept": len(part)}
        )  # fmt: skip
    return rows


def subset(pixels: Pixels, indices: Sequence[int]) -> Pixels:
    """Return the images at `indices`."""
    chosen = torch.tensor(indices)
    return Pixels(
        lambda batch: pixels.batch(chosen[batch]),
        pixels.labels[chosen],
        ids=[pixels.ids[index] for index in indices],
        size_px=pixels.size_px,
    )


if __name__ == "__main__":
    main()
