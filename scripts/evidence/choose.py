"""Tune our own strategy on photographs outside the training and test sets.

    python choose.py --data FOLDER/choice --out OUT --seeds 2 --jobs 2

`FOLDER/choice` is written by write_data.py. Variants of the strategy `real-fake` (every image in
turn, generated before training) and of the agent's loop, at the budget and steps of the few-shot
benchmark, each with one change. Interrupted, the same command resumes; take_batchnorm.py then
measures the effect of recomputed batch-normalisation statistics.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from gendataagent.cli.console import ConsoleProgress
from gendataagent.config.settings import merged
from gendataagent.experiments import Arm, find_benchmark, run_experiment
from gendataagent.experiments.report import benchmark_report
from gendataagent.experiments.writing import write_folder

LOOP = {
    "agent": {"rounds": 2, "first_round_epoch": 0, "rounds_within": 0.5, "pool": "accumulate"},
    "selection": {"share": 1.0, "per_class": True},
    "filter": {"by": "none"},
}


def before_training(name: str, **settings: Mapping[str, Any]) -> Arm:
    """Every image in turn, before training, with one change."""
    return Arm(name=name, strategy="real-fake", settings=settings)


def two_rounds(name: str, **settings: Mapping[str, Any]) -> Arm:
    """Half before training, half after a quarter of it, all kept, with one change."""
    return Arm(name=name, strategy="gendataagent", settings=merged(LOOP, settings))


ARMS = (
    Arm(name="only-real", strategy="only-real"),
    Arm(name="cutmix", strategy="cutmix"),
    before_training("real-fake"),
    before_training("rewritten", prompting={"rewriter": "auto"}),
    before_training("no caption", prompting={"captioner": "none"}),
    before_training("strength 0.6", generation={"strength": 0.6}),
    before_training("strength 0.95", generation={"strength": 0.95}),
    before_training("soft labels", training={"synthetic_label_smoothing": 0.3}),
    two_rounds("two rounds, all", selection={"by": "uniform"}),
    two_rounds("two rounds, hard half", selection={"share": 0.5}),
    two_rounds("two rounds, by class error",
               selection={"share": 0.5, "budget_by": "validation-error", "by": "uniform"}),
    Arm(name="gendataagent", strategy="gendataagent"),
)  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="FOLDER/choice of write_data.py")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--bf16", action="store_true", help="bfloat16, for CPUs that support it")
    arguments = parser.parse_args()
    half = {"training": {"mixed_precision": "bf16"}, "generation": {"dtype": "bfloat16"}}
    benchmark = replace(
        find_benchmark("fewshot-cifar10"),
        name="choose",
        about="settings of our own strategy, on photographs outside the test set",
        arms=ARMS,
        baseline="real-fake",
        seeds=tuple(range(arguments.seeds)),
    )
    rows = run_experiment(
        benchmark,
        arguments.out,
        settings=merged({"data": {"path": str(arguments.data)}}, half if arguments.bf16 else {}),
        jobs=arguments.jobs,
        progress=ConsoleProgress(),
    )
    write_folder(benchmark_report(rows, benchmark), arguments.out)


if __name__ == "__main__":
    main()
