"""Experiments: arms x seeds at equal budget, resumable run by run, with intervals.

from gendataagent.experiments import find_bench, run_equal_time, run_experiment

rows = run_experiment(find_bench("fewshot-cifar10"), "runs/fewshot", jobs=2)
rows = run_equal_time(find_bench("fewshot-cifar10"), "runs/fewshot", jobs=2)
"""

from __future__ import annotations

from gendataagent.experiments.benchmarks import Arm, Bench, all_benches, find_bench
from gendataagent.experiments.equal_time import plan_equal_time, run_equal_time
from gendataagent.experiments.experiment import plan_experiment, run_experiment
from gendataagent.experiments.measures import read_rows

__all__ = [
    "Arm",
    "Bench",
    "all_benches",
    "find_bench",
    "plan_equal_time",
    "plan_experiment",
    "read_rows",
    "run_equal_time",
    "run_experiment",
]
