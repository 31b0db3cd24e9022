"""Experiments: arms x seeds at equal budget, resumable run by run, with intervals.

from gendataagent.experiments import find_bench, run_experiment

rows = run_experiment(find_bench("fewshot-cifar10"), "runs/fewshot", jobs=2)
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gendataagent.config import RunConfig
from gendataagent.errors import GenerationError
from gendataagent.experiments.benches import Arm, Bench, Task, all_benches, find_bench, tasks_of
from gendataagent.experiments.collecting import EXTRAS_FILE, read_rows, row_of, write_rows
from gendataagent.experiments.running import TaskOutcome, folder_of, is_done, run_tasks
from gendataagent.progress import Progress, SilentProgress
from gendataagent.settings import merged

__all__ = [
    "Arm",
    "Bench",
    "all_benches",
    "find_bench",
    "plan_experiment",
    "read_rows",
    "run_experiment",
]

RESULTS_FILE = "results.parquet"


def plan_experiment(bench: Bench, settings: Mapping[str, Any] | None = None) -> list[Task]:
    """Return the runs of an experiment; reads the data once, to count its pictures.

    Args:
        settings: laid over the bench's base: data.path, for example.
    """
    from gendataagent.data import load_data

    settings = settings or {}
    base = RunConfig.from_dict(merged(bench.base, settings))
    train = load_data(base.data, seed=base.seed).train
    counts = Counter(train.labels)
    per_class = [counts[label] for label in range(len(train.class_names))]
    return tasks_of(bench, images_per_class=per_class, settings=settings)


def run_experiment(
    bench: Bench,
    out: str | Path,
    *,
    settings: Mapping[str, Any] | None = None,
    jobs: int = 1,
    progress: Progress | None = None,
) -> list[dict[str, Any]]:
    """Run what is missing of an experiment and return a row for every run that is finished.

    Stopped at any moment and called again, it goes on; `out/results.parquet` holds the rows.

    Args:
        jobs: runs at a time, one thread each.

    Raises:
        GenerationError: runs failed; all others were finished first, and their rows written.
    """
    out, progress = Path(out), progress or SilentProgress()
    tasks = plan_experiment(bench, settings)
    done = sum(is_done(task, out) for task in tasks)
    failures: list[TaskOutcome] = []
    with progress.stage("experiment", len(tasks), "runs", done) as stage:

        def report(outcome: TaskOutcome) -> None:
            stage.advance()
            task = outcome.task
            if outcome.failure:
                failures.append(outcome)
                progress.say(f"{task.arm}, seed {task.seed} failed: {outcome.failure}")
                return
            row = row_of(folder_of(task, out), arm=task.arm, seed=task.seed)
            progress.say(
                f"{task.arm}, seed {task.seed}: top-1 {row['top1']:.1%}, worst class "
                f"{row['worst_class']:.1%}, {outcome.seconds:.0f} s"
            )
            write_rows(collect(tasks, out), out / RESULTS_FILE)

        run_tasks(tasks, out, jobs=jobs, on_done=report)
    rows = collect(tasks, out)
    if rows:
        write_rows(rows, out / RESULTS_FILE)
    if failures:
        raise GenerationError(
            f"{len(failures)} of {len(tasks)} runs failed, the first: {failures[0].failure}. The "
            "others are finished; start it again with the same --out to try those again"
        )
    return rows


def collect(tasks: list[Task], out: Path) -> list[dict[str, Any]]:
    """Return the rows of the finished runs among `tasks`, in order of arm and seed."""
    order = {arm: place for place, arm in enumerate(dict.fromkeys(task.arm for task in tasks))}
    finished = [
        task for task in tasks
        if is_done(task, out) and (folder_of(task, out) / EXTRAS_FILE).exists()
    ]  # fmt: skip
    finished.sort(key=lambda task: (order[task.arm], task.seed))
    return [row_of(folder_of(task, out), arm=task.arm, seed=task.seed) for task in finished]
