"""Choose our own strategy on photographs that are neither trained on nor of the test set.

    python choose.py --data FOLDER/choice --out OUT --seeds 2 --jobs 2

`FOLDER/choice` is of write_data.py. Variants of the strategy `real-fake` (every image in turn, made
before training) and of the agent's loop, at the few-shot bench's budget and steps, each with one
change. Goes on where it stopped; take_batchnorm.py then says what another batch normalisation does.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from gendataagent.cli.console import ConsoleProgress
from gendataagent.config.settings import merged
from gendataagent.experiments import Arm, find_bench, run_experiment
from gendataagent.experiments.report import report_of_bench
from gendataagent.experiments.writing import write_folder

LOOP = {
    "agent": {"rounds": 2, "first_round_epoch": 0, "rounds_within": 0.5, "pool": "accumulate"},
    "selection": {"share": 1.0, "per_class": True},
    "filter": {"by": "none"},
}


def before_training(name: str, **settings: Mapping[str, Any]) -> Arm:
    """Every image in turn, before training, with something changed."""
    return Arm(name=name, strategy="real-fake", settings=settings)


def two_rounds(name: str, **settings: Mapping[str, Any]) -> Arm:
    """Half before training, half after a quarter of it, all kept, with something changed."""
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
    parser.add_argument("--bf16", action="store_true", help="half precision, for CPUs that have it")
    arguments = parser.parse_args()
    half = {"training": {"mixed_precision": "bf16"}, "generation": {"dtype": "bfloat16"}}
    bench = replace(
        find_bench("fewshot-cifar10"),
        name="choose",
        about="settings of our own strategy, on other photographs than the test set",
        arms=ARMS,
        baseline="real-fake",
        seeds=tuple(range(arguments.seeds)),
    )
    rows = run_experiment(
        bench,
        arguments.out,
        settings=merged({"data": {"path": str(arguments.data)}}, half if arguments.bf16 else {}),
        jobs=arguments.jobs,
        progress=ConsoleProgress(),
    )
    write_folder(report_of_bench(rows, bench), arguments.out)


if __name__ == "__main__":
    main()
