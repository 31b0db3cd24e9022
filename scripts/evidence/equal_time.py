"""Rerun a finished experiment at the wall-clock budget of one of its arms.

    python equal_time.py fewshot-cifar10 --out OUT --arms only-real,gendataagent --seeds 3

Every arm gets the seconds that the reference arm takes for its epochs: what it does not spend on
images, it trains longer. The number of epochs follows from a cost model (`time_costs`), fitted to
the finished experiment in OUT and stored in `equal-time.json`. Learning-rate drops, rounds and VoG
snapshots stay at the same fractions of the training. Interrupted, the same command resumes.

    OUT/equal-time.json              costs, by arm
    OUT/runs/ARM@time-seedN-HASH/    one run folder per task; an arm with unchanged epochs keeps
                                     its runs at equal steps
    OUT/results-equal-time.parquet, .md, .html
"""

from __future__ import annotations

import argparse
import os
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from equal_time_page import write_equal_time
from time_costs import ArmCost, arm_cost, caption_prices, image_prices, read_timed

from gendataagent.cli.console import ConsoleProgress
from gendataagent.config import RunConfig
from gendataagent.config.settings import apply_overrides
from gendataagent.core import files
from gendataagent.core.errors import ConfigError, GenerationError, RunFolderError
from gendataagent.core.progress import Progress, SilentProgress
from gendataagent.experiments.benchmarks import Benchmark, Task, parse_seeds
from gendataagent.experiments.catalogue import find_benchmark
from gendataagent.experiments.experiment import collect, plan_experiment, run_and_collect
from gendataagent.experiments.runner import folder_of, is_done

COSTS_FILE = "equal-time.json"
RESULTS_FILE = "results-equal-time.parquet"
SUFFIX = "@time"
REFERENCE = "gendataagent"


@dataclass(frozen=True, slots=True, kw_only=True)
class TimedArm:
    """An arm at the reference's wall-clock budget.

    Args:
        epochs: for which it costs about as much as the reference.
        seconds: predicted for these epochs.
    """

    cost: ArmCost
    epochs: int
    seconds: float


def run_equal_time(
    benchmark: Benchmark,
    out: str | Path,
    *,
    reference: str = REFERENCE,
    settings: Mapping[str, Any] | None = None,
    jobs: int = 1,
    progress: Progress | None = None,
) -> list[dict[str, Any]]:
    """Run every arm for the time the reference takes; return a row for every finished run.

    The experiment at equal steps must be finished in `out`. Besides the parquet,
    `out/results-equal-time.md` and `.html` are written.

    Args:
        reference: the arm whose seconds are the budget of all.
        settings, jobs: as `run_experiment`; the settings must be those of the finished experiment.

    Raises:
        ConfigError: no such arm, or steps_per_epoch is not fixed.
        RunFolderError: runs at equal steps are missing, or were made with another generator.
        GenerationError: runs failed; all others were finished first, and their rows written.
    """
    out, progress = Path(out), progress or SilentProgress()
    timed, arms = plan_equal_time(benchmark, out, reference=reference, settings=settings)
    for name, arm in arms.items():
        progress.say(f"{name}: {arm.epochs} epochs for {arm.seconds:.0f} s")

    def rows_of(tasks: Sequence[Task], out: Path) -> list[dict[str, Any]]:
        return [_row(row, arms, out) for row in collect(tasks, out)]

    def write(rows: Sequence[Mapping[str, Any]]) -> None:
        costs = {name: arm.cost for name, arm in arms.items()}
        write_equal_time(rows, out, benchmark=benchmark, reference=reference, costs=costs)

    try:
        rows = run_and_collect(
            timed, out, out / RESULTS_FILE, jobs=jobs, progress=progress, rows_of=rows_of
        )
    except GenerationError:
        if finished := rows_of(timed, out):
            write(finished)
        raise
    write(rows)
    return rows


def plan_equal_time(
    benchmark: Benchmark,
    out: str | Path,
    *,
    reference: str = REFERENCE,
    settings: Mapping[str, Any] | None = None,
) -> tuple[list[Task], dict[str, TimedArm]]:
    """Return the runs of `run_equal_time`, and arm -> its training time; writes the costs.

    Raises:
        ConfigError, RunFolderError: as `run_equal_time`.
    """
    tasks = plan_experiment(benchmark, settings)
    _check(tasks, Path(out), benchmark, reference)
    arms = timed_arms(tasks, frozen_costs(tasks, Path(out)), reference)
    return [timed_task(task, arms[task.arm].epochs) for task in tasks], arms


def timed_arms(
    tasks: Sequence[Task], costs: Mapping[str, ArmCost], reference: str
) -> dict[str, TimedArm]:
    """Return arm -> epochs and seconds that match the reference's cost at its own epochs."""
    configs = {task.arm: task.config for task in reversed(tasks)}
    budget = costs[reference].seconds(_steps(configs[reference]))
    arms = {}
    for arm in dict.fromkeys(task.arm for task in tasks):
        cost, config = costs[arm], configs[arm]
        left = budget - cost.beside_training
        wanted = round(left / (cost.step_seconds * config.training.steps_per_epoch))
        longer = with_epochs(config, max(1, wanted))
        arms[arm] = TimedArm(
            cost=cost, epochs=longer.training.epochs, seconds=cost.seconds(_steps(longer))
        )
    return arms


def with_epochs(config: RunConfig, epochs: int) -> RunConfig:
    """Return the settings with so many epochs, the rounds at the same fractions of the training.

    If the rounds need more epochs, the least number that fits. A first round before training, or
    at an epoch that follows from the number of rounds, stays so.
    """
    if not config.agent.enabled:
        return replace(config, training=replace(config.training, epochs=epochs))
    first, rounds = config.agent.first_round_epoch, config.agent.rounds
    share = first / config.training.epochs
    # -1: each of rounds + 1 stretches needs an epoch
    needed = rounds + 1 if first else rounds
    while config.agent.last_epoch(epochs) < needed:
        epochs += 1
    if first > 0:
        first = min(max(1, round(share * epochs)), config.agent.last_epoch(epochs) - rounds)
    return replace(
        config,
        training=replace(config.training, epochs=epochs),
        agent=replace(config.agent, first_round_epoch=first),
    )


def timed_task(task: Task, epochs: int) -> Task:
    """Return the task with so many epochs; the task itself if they are unchanged."""
    if epochs == task.config.training.epochs:
        return task
    return replace(task, arm=task.arm + SUFFIX, config=with_epochs(task.config, epochs))


def frozen_costs(tasks: Sequence[Task], out: Path) -> dict[str, ArmCost]:
    """Return arm -> cost: read from `out`, or fitted and written for arms that are new there.

    An arm is identified by its settings without the seed, so that experiments may share `out`.
    """
    path = out / COSTS_FILE
    kept: dict[str, Any] = {"images": {}, "captions": {}, "arms": {}}
    if path.exists():
        kept = files.read_json(path)
    of_arm: dict[str, list[Task]] = defaultdict(list)
    for task in tasks:
        of_arm[task.arm].append(task)
    kinds = {arm: replace(own[0].config, seed=0).results_hash() for arm, own in of_arm.items()}
    new = [arm for arm, kind in kinds.items() if kind not in kept["arms"]]
    if new:
        # Runs of other experiments too: one of them may have made an image used here.
        folders = sorted(path.parent for path in (out / "runs").glob("*/manifest.json"))
        runs = {folder: read_timed(folder) for folder in folders}
        images = {**image_prices(runs.values()), **kept["images"]}
        captions = {**caption_prices(runs.values()), **kept["captions"]}
        for arm in new:
            own = [runs[folder_of(task, out)] for task in of_arm[arm]]
            cost = arm_cost(own, images=images, captions=captions)
            kept["arms"][kinds[arm]] = {"arm": arm, "seeds": len(own), **cost.to_json()}
        files.write_json(path, {**kept, "images": images, "captions": captions})
    return {
        arm: ArmCost(**{name: kept["arms"][kind][name] for name in ArmCost.__dataclass_fields__})
        for arm, kind in kinds.items()
    }


def _steps(config: RunConfig) -> int:
    return config.training.epochs * config.training.steps_per_epoch


def _check(tasks: Sequence[Task], out: Path, benchmark: Benchmark, reference: str) -> None:
    """Raise if the arms cannot be brought to one wall-clock budget."""
    arms = list(dict.fromkeys(task.arm for task in tasks))
    if reference not in arms:
        raise ConfigError(
            f"the experiment {benchmark.name} has no arm {reference!r} as reference; its arms: "
            f"{', '.join(arms)}"
        )
    if any(task.config.training.steps_per_epoch < 1 for task in tasks):
        raise ConfigError(
            "equal time needs a fixed training.steps_per_epoch, got 0 (one pass over real and kept "
            "images); set it to 1 or more and run the experiment with it first"
        )
    missing = [task for task in tasks if not is_done(task, out)]
    if missing:
        names = ", ".join(f"{task.arm} seed {task.seed}" for task in missing[:5])
        more = f" and {len(missing) - 5} more" if len(missing) > 5 else ""
        raise RunFolderError(
            f"equal time needs the finished experiment at equal steps, but {out} lacks "
            f"{len(missing)} of its {len(tasks)} runs: {names}{more}. Run it first, with the same "
            f"arms, seeds and settings: gendataagent experiment {benchmark.name} --out {out}"
        )


def _row(row: Mapping[str, Any], arms: Mapping[str, TimedArm], out: Path) -> dict[str, Any]:
    """Return a row named after the original arm, with predicted and measured seconds."""
    name, folder = row["arm"].removesuffix(SUFFIX), out / "runs" / row["run"]
    timed = read_timed(folder)
    metrics = files.read_jsonl(folder / "metrics.jsonl")
    of_baseline = folder / "baseline" / "metrics.jsonl"
    baseline = files.read_jsonl(of_baseline) if timed.config.agent.is_guarded else []
    return {
        **row,
        "arm": name,
        "epochs": len(metrics),
        "predicted_seconds": arms[name].seconds,
        "epoch_seconds": sum(line["seconds"] for line in (*metrics, *baseline)),
        "round_seconds": sum(sum(record.seconds.values()) for record in timed.rounds),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("name", help="benchmark, as of `gendataagent experiment`")
    parser.add_argument("--out", type=Path, required=True, help="folder of the experiment")
    parser.add_argument("--reference", default=REFERENCE, help="arm whose seconds are the budget")
    parser.add_argument("--arms", help="as of the experiment")
    parser.add_argument("--seeds", help="as of the experiment")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--set", action="append", default=[], metavar="SECTION.KEY=VALUE")
    arguments = parser.parse_args()
    benchmark = find_benchmark(arguments.name)
    if arguments.arms:
        benchmark = benchmark.with_arms(arguments.arms.split(","))
    if arguments.seeds:
        benchmark = replace(benchmark, seeds=parse_seeds(arguments.seeds))
    run_equal_time(
        benchmark,
        arguments.out,
        reference=arguments.reference,
        settings=apply_overrides({}, arguments.set),
        jobs=arguments.jobs,
        progress=ConsoleProgress(),
    )
    print(f"results: {arguments.out / 'results-equal-time.html'}")


if __name__ == "__main__":
    main()
