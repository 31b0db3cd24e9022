"""Experiments: strategies x seeds at equal budget, resumable run by run, with intervals.

from gendataagent.experiments import find_benchmark, run_experiment

rows = run_experiment(find_benchmark("fewshot-cifar10"), "runs/fewshot", jobs=2)
"""

from __future__ import annotations

from gendataagent.experiments.benchmarks import Arm, Benchmark
from gendataagent.experiments.catalogue import all_benchmarks, find_benchmark
from gendataagent.experiments.experiment import plan_experiment, run_experiment
from gendataagent.experiments.measures import read_rows

__all__ = [
    "Arm",
    "Benchmark",
    "all_benchmarks",
    "find_benchmark",
    "plan_experiment",
    "read_rows",
    "run_experiment",
]
