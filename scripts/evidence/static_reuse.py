"""The images or the moment? Train anew on the images of finished runs, all of them from the start.

    python static_reuse.py OUT/runs/gendataagent-guided-seed3* --to RESULTS.jsonl

For each run: the same classifier, seed, data, recipe and number of steps; the images that the run's
rounds made one after the other are there from the first epoch. Appends one line for each run, with
its own result beside it; runs that have a line are skipped. Test is read once for each training.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import torch

from gendataagent.agent.pool import Pool
from gendataagent.config.run_config_file import read_run_config
from gendataagent.core.records import derive_seed
from gendataagent.core.run_folder import RunFolder
from gendataagent.data.pixels import Pixels
from gendataagent.runs.results import read_result
from gendataagent.runs.splits import read_splits
from gendataagent.training.backbones import build_classifier
from gendataagent.training.evaluation import evaluate
from gendataagent.training.trainer import Trainer


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("runs", type=Path, nargs="+")
    parser.add_argument("--to", type=Path, required=True)
    arguments = parser.parse_args()
    known = arguments.to.read_text().splitlines() if arguments.to.exists() else []
    done = {json.loads(line)["run"] for line in known}
    for run in arguments.runs:
        if run.name in done:
            continue
        row = retrain(run)
        with arguments.to.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(row) + "\n")
        print(
            f"{run.name}: top-1 {row['top1']:.1%} with its images from the start, "
            f"{row['run_top1']:.1%} in the run",
            flush=True,
        )


def retrain(run: Path) -> dict[str, Any]:
    """Return the result of a training on the images of a finished run from its first epoch."""
    start = time.perf_counter()
    folder = RunFolder.open(run)
    config = read_run_config(folder)
    torch.set_num_threads(max(1, config.threads))
    splits = read_splits(run)
    classifier = build_classifier(
        config.classifier,
        splits.train.class_names,
        seed=derive_seed(config.seed, "classifier"),
        device="cpu",
    )
    trainer = Trainer(classifier, config.training, seed=config.seed)
    size_px = trainer.augmenter.stored_px
    real = Pixels.from_images(splits.train, size_px)
    images = Pool(folder, splits.train.class_names).kept(range(config.agent.rounds))
    synthetic = Pixels.from_images(images, size_px)
    for epoch in range(1, config.training.epochs + 1):
        trainer.fit_epoch(epoch, real, synthetic, candidates=images.candidates)
    if config.training.batchnorm_from_real:
        trainer.recompute_batchnorm(real)
    test = evaluate(classifier, Pixels.from_images(splits.test, size_px), "test")
    own = read_result(run).evaluations["test"]
    return {
        "run": run.name,
        "seed": config.seed,
        "images": len(images),
        "top1": test.top1,
        "worst_class": test.worst_class_accuracy,
        "run_top1": own.top1,
        "run_worst_class": own.worst_class_accuracy,
        "seconds": round(time.perf_counter() - start, 1),
    }


if __name__ == "__main__":
    main()
