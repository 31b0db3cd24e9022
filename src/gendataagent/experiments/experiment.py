"""An experiment from its plan to its rows: runs missing tasks, collects finished ones."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from gendataagent.config import RunConfig
from gendataagent.config.settings import merged
from gendataagent.core import files
from gendataagent.core.devices import resolve_device
from gendataagent.core.errors import GenerationError
from gendataagent.core.inside import refuse_ways_out
from gendataagent.core.progress import Progress, SilentProgress
from gendataagent.experiments.benchmarks import Benchmark, Task, tasks_of
from gendataagent.experiments.measures import row_of, write_rows
from gendataagent.experiments.runner import (
    TaskOutcome,
    check_generators,
    folder_of,
    is_done,
    run_tasks,
)
from gendataagent.runs.destinations import destinations

RESULTS_FILE = "results.parquet"


def plan_experiment(
    benchmark: Benchmark,
    settings: Mapping[str, Any] | None = None,
    *,
    progress: Progress | None = None,
) -> list[Task]:
    """Return the runs of an experiment; reads the data once, to count its images.

    Args:
        settings: override the benchmark's base: data.path, for example.
        progress: told if the generator cannot draw the classes.
    """
    from gendataagent.data import load_data

    settings = settings or {}
    base = RunConfig.from_dict(merged(benchmark.base, settings))
    train = load_data(base.data, seed=base.seed).train
    if progress is not None:
        warn_of_unknown_classes(base, train.class_names, progress)
    return tasks_of(benchmark, images_per_class=train.images_per_class(), settings=settings)


def warn_of_unknown_classes(
    config: RunConfig, class_names: Sequence[str], progress: Progress
) -> None:
    """Say which classes the generator, the one that auto stands for too, cannot draw."""
    from gendataagent.generation.backends import with_backends_chosen
    from gendataagent.generation.known_classes import known_classes

    chosen = with_backends_chosen(config, resolve_device(config.device))
    known = known_classes(chosen.generation.generator, class_names)
    if known is not None and known.unknown:
        progress.say(known.warning)


def run_experiment(
    benchmark: Benchmark,
    out: str | Path,
    *,
    settings: Mapping[str, Any] | None = None,
    jobs: int = 0,
    progress: Progress | None = None,
) -> list[dict[str, Any]]:
    """Run the missing tasks of an experiment and return a row for every finished run.

    Interrupted at any moment and called again, it resumes; `out/results.parquet` holds the rows.

    Args:
        jobs: parallel runs, one thread each; 0 = one a GPU, or a core without any.

    Raises:
        GenerationError: runs failed; all others were finished first, and their rows written.
        RunFolderError: runs in `out` were made with another generator.
    """
    out, progress = Path(out), progress or SilentProgress()
    tasks = plan_experiment(benchmark, settings, progress=progress)
    return run_and_collect(tasks, out, out / RESULTS_FILE, jobs=jobs, progress=progress)


def collect(tasks: Sequence[Task], out: Path) -> list[dict[str, Any]]:
    """Return the rows of the finished runs among `tasks`, in order of arm and seed."""
    order = {arm: place for place, arm in enumerate(dict.fromkeys(task.arm for task in tasks))}
    finished = [task for task in tasks if is_done(task, out)]
    finished.sort(key=lambda task: (order[task.arm], task.seed))
    return [row_of(folder_of(task, out), arm=task.arm, seed=task.seed) for task in finished]


def run_and_collect(
    tasks: Sequence[Task],
    out: Path,
    results: Path,
    *,
    jobs: int,
    progress: Progress,
    rows_of: Callable[[Sequence[Task], Path], list[dict[str, Any]]] = collect,
    too_late: Callable[[Task], bool] | None = None,
) -> list[dict[str, Any]]:
    """Run the missing ones of `tasks`; return the rows of all, and write them to `results`.

    Args:
        rows_of: makes the rows of the finished tasks in `out`.
        too_late: as `run_tasks`.

    Raises:
        GenerationError, RunFolderError: as `run_experiment`.
    """
    refuse_ways_out(out)
    files.remove_leftovers(out, shared=True)
    check_generators(tasks, out)
    todo = [task.config for task in tasks if not is_done(task, out)]
    places = (place for config in todo for place in destinations(config))
    for sentence in dict.fromkeys(place.sentence for place in places):
        progress.say(sentence)
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
            write_rows(rows_of(tasks, out), results)

        run_tasks(tasks, out, jobs=jobs, on_done=report, too_late=too_late)
    rows = rows_of(tasks, out)
    if rows:
        write_rows(rows, results)
    if failures:
        raise GenerationError(
            f"{len(failures)} of {len(tasks)} runs failed, the first: {failures[0].failure}. All "
            "others are finished; run the same command again to retry the failed ones"
        )
    return rows
