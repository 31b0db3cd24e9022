"""Screening: which strategy pays on one's own images, by successive halving over seeds.

Each rung runs the arms that are left, beside real images alone, on further seeds: 1, 2, 4, ... in
all. The better half by validation accuracy goes on, until one is left. It is then compared with
real images alone on seeds that no rung has seen, on the test images. The choice never reads a test
result. Source: Jamieson and Talwalkar, AISTATS 2016, with seeds as the resource, so that every run
is a complete one.

    OUT/results.parquet, .html, .md   all runs
    OUT/recommended.toml              settings of the recommended run
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Any

from gendataagent.config import RunConfig
from gendataagent.config.settings import merged
from gendataagent.core import files
from gendataagent.core.devices import resolve_device
from gendataagent.core.errors import ConfigError
from gendataagent.core.progress import Progress, SilentProgress
from gendataagent.core.text import counted
from gendataagent.data.formats.hub import HUB_PREFIX
from gendataagent.experiments.benchmarks import Benchmark, Task, tasks_of
from gendataagent.experiments.experiment import RESULTS_FILE, collect, run_and_collect
from gendataagent.experiments.runner import default_jobs
from gendataagent.experiments.statistics import Difference, paired_difference
from gendataagent.runs.planning import make_plan

MY_PHOTOS = "my-photos"
BASELINE = "only-real"
ARMS = ("real-fake-plus", "gendataagent", "gendataagent-plus", "gendataagent-guided")
FIRST_SEED = 100  # of the rungs; the last comparison has the benchmark's seeds
RUNGS_SHARE = 0.5  # of the hours; the last comparison has what is left
RECOMMENDED_FILE = "recommended.toml"


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """What an arm has reached in a rung.

    Args:
        gain: mean validation accuracy minus that of real images alone, over the seeds both have.
        goes_on: whether it is in the next rung, or in the last comparison.
    """

    arm: str
    gain: float
    seeds: int
    goes_on: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Screening:
    """Outcome of a screening.

    Args:
        rungs: the standings of each rung, best first.
        difference: top-1 on test of `arm` minus real images alone, over the fresh seeds that both
            have finished; None where there is none.
        recommended: `arm`, or "only-real".
        sentence: what was found, for the user.
        file: settings of the recommended run; None before any run has finished.
    """

    rungs: tuple[tuple[Standing, ...], ...]
    arm: str
    difference: Difference | None
    recommended: str
    sentence: str
    file: Path | None
    rows: tuple[Mapping[str, Any], ...]

    @property
    def facts(self) -> tuple[str, ...]:
        """Sentences for the page of the results: the finding, and what each rung has shown."""
        return tuple(f"{told}." for told in (self.sentence, *map(_rung_sentence, self.rungs)))


def screening_benchmark(config: RunConfig, arms: Sequence[str] = ()) -> Benchmark:
    """Return the benchmark of a screening on the images of `config`.

    Args:
        config: what all arms share, as for a run.
        arms: strategies or TOML files of one; empty = `ARMS`. Real images alone are always added.

    Raises:
        ConfigError: an unknown strategy, or a run without the agent.
    """
    if not config.agent.enabled:
        raise ConfigError(
            "a screening compares strategies of the agent with real images alone, but "
            "agent.enabled is false; leave it out"
        )
    benchmark = Benchmark(
        name=MY_PHOTOS,
        about=f"strategies on {config.data.path}, by successive halving",
        base=config.to_dict(),
        arms=(),
        baseline=BASELINE,
        data=config.data.path,
    )
    return benchmark.with_arms([BASELINE, *(arm for arm in (arms or ARMS) if arm != BASELINE)])


def rungs_of(arms: int) -> list[tuple[int, int]]:
    """Return the rungs of a screening of so many arms: arms that are left, and further seeds."""
    rungs, have = list[tuple[int, int]](), 0
    while arms > 1:
        now = max(1, 2 * have)
        rungs.append((arms, now - have))
        arms, have = math.ceil(arms / 2), now
    return rungs


def estimated_seconds(
    benchmark: Benchmark, images_per_class: Sequence[int], *, jobs: int = 0
) -> tuple[float, float] | None:
    """Return the least and the most seconds of a screening, by the plans of its runs.

    They differ because it is not known which arms go on. What runs share (images, the training
    before the first round) is counted for each. None where a plan does not know its seconds.

    Args:
        images_per_class: of the training set.
        jobs: as `run_experiment`; those on one CPU share its cores.
    """
    images = sum(images_per_class) if benchmark.data.startswith(HUB_PREFIX) else None
    tasks = tasks_of(
        replace(_with_equal_steps(benchmark, images_per_class), seeds=(FIRST_SEED,)),
        images_per_class=images_per_class,
        settings={},
    )
    plans = {task.arm: make_plan(task.config, images=images) for task in tasks}
    seconds = {arm: plan.seconds for arm, plan in plans.items()}
    known = {arm: value for arm, value in seconds.items() if value is not None}
    if len(known) < len(seconds):
        return None
    alone = known.pop(BASELINE)
    on_gpu = plans[BASELINE].device.is_gpu
    at_once = (jobs or default_jobs(resolve_device(str(benchmark.base["device"])))) if on_gpu else 1

    def in_all(ranked: Sequence[float]) -> float:
        rungs = [*rungs_of(len(ranked)), (1, len(benchmark.seeds))]
        return sum(seeds * (alone + sum(ranked[:arms])) for arms, seeds in rungs) / at_once

    return in_all(sorted(known.values())), in_all(sorted(known.values(), reverse=True))


def survivors(gains: Mapping[str, float]) -> list[str]:
    """Return the better half of the arms, best first; of equals, the one named first.

    Args:
        gains: arm -> its gain on validation.
    """
    places = {arm: place for place, arm in enumerate(gains)}
    ranked = sorted(gains, key=lambda arm: (-gains[arm], places[arm]))
    return ranked[: math.ceil(len(ranked) / 2)]


def screen(
    benchmark: Benchmark,
    out: Path,
    *,
    images_per_class: Sequence[int],
    hours: float = 0.0,
    jobs: int = 0,
    progress: Progress | None = None,
) -> Screening:
    """Run a screening, or resume one: finished runs are read, and the same arms go on.

    Args:
        benchmark: of `screening_benchmark`; its seeds are those of the last comparison.
        images_per_class: of the training set.
        hours: no run starts that would end later, by the seconds of the finished ones; of this
            call and earlier ones together; 0 = no limit.
        jobs: as `run_experiment`.

    Raises:
        ConfigError: there are no validation images to judge arms by.
        GenerationError, RunFolderError: as `run_experiment`.
    """
    progress = progress or SilentProgress()
    jobs = jobs or default_jobs(resolve_device(str(benchmark.base["device"])))
    runs = _Runs(
        _with_equal_steps(benchmark, images_per_class), out, images_per_class=images_per_class,
        hours=hours, jobs=jobs, progress=progress,
    )  # fmt: skip
    arms = [arm.name for arm in benchmark.arms if arm.name != BASELINE]
    rungs: list[tuple[Standing, ...]] = []
    while len(arms) > 1:
        seeds = range(FIRST_SEED, FIRST_SEED + 2 ** len(rungs))
        rows = runs.run([BASELINE, *arms], seeds, share=RUNGS_SHARE)
        gains = validation_gains(rows, arms)
        if not gains:
            break
        going_on = survivors({arm: gain for arm, (gain, _) in gains.items()})
        if runs.stopped:
            going_on = going_on[:1]
        rungs.append(_standings(gains, going_on))
        progress.say(_rung_sentence(rungs[-1]))
        arms = going_on
    last = runs.run([BASELINE, arms[0]], benchmark.seeds) if len(arms) == 1 else runs.rows()
    return _concluded(tuple(rungs), arms, last, runs)


class _Runs:
    """The runs of a screening so far, and the time that they took."""

    def __init__(
        self,
        benchmark: Benchmark,
        out: Path,
        *,
        images_per_class: Sequence[int],
        hours: float,
        jobs: int,
        progress: Progress,
    ) -> None:
        self.benchmark, self.out = benchmark, out
        self.stopped = False  # by the hours, in the last call of `run`
        self._images_per_class, self._hours = images_per_class, hours
        self._jobs, self._progress = jobs, progress
        self._tasks: dict[str, Task] = {}

    def rows(self) -> list[dict[str, Any]]:
        """Return the rows of all finished runs."""
        return collect(list(self._tasks.values()), self.out)

    def run(
        self, arms: Sequence[str], seeds: Sequence[int], *, share: float = 1.0
    ) -> list[dict[str, Any]]:
        """Run arms on seeds, as far as a share of the hours reaches; return their rows."""
        tasks = self.tasks(arms, seeds)
        self._tasks |= {task.name: task for task in tasks}
        self.stopped = False
        started, spent_s = time.monotonic(), self._run_seconds() / self._jobs

        def too_late(task: Task) -> bool:
            if not self._hours:
                return False
            takes_s = max((row["seconds"] for row in self.rows() if row["arm"] == task.arm),
                          default=self._longest_s())  # fmt: skip
            end_s = spent_s + time.monotonic() - started + takes_s
            self.stopped = self.stopped or end_s > share * self._hours * 3600
            return self.stopped

        run_and_collect(
            tasks, self.out, self.out / RESULTS_FILE, jobs=self._jobs, progress=self._progress,
            rows_of=lambda *_: self.rows(), too_late=too_late,
        )  # fmt: skip
        return collect(tasks, self.out)

    def tasks(self, arms: Sequence[str], seeds: Sequence[int]) -> list[Task]:
        """Return the runs of arms on seeds, seed by seed."""
        return tasks_of(
            replace(self.benchmark.with_arms(arms), seeds=tuple(seeds)),
            images_per_class=self._images_per_class,
            settings={},
        )

    def _run_seconds(self) -> float:
        return sum(float(row["seconds"]) for row in self.rows())

    def _longest_s(self) -> float:
        return max((float(row["seconds"]) for row in self.rows()), default=0.0)


def validation_gains(
    rows: Sequence[Mapping[str, Any]], arms: Sequence[str]
) -> dict[str, tuple[float, int]]:
    """Return arm -> (mean gain on validation over real images alone, seeds that both have).

    An arm without a finished run, or without one of the baseline on its seeds, is left out.

    Raises:
        ConfigError: a run has no validation images.
    """
    if any(row["validation"] is None for row in rows):
        raise ConfigError(
            "a screening chooses by validation accuracy, but there are no validation images; give "
            "a validation split, or set data.validation_share"
        )
    reached = {(row["arm"], row["seed"]): row["validation"] for row in rows}
    gains = {}
    for arm in arms:
        seeds = [seed for name, seed in reached if name == arm and (BASELINE, seed) in reached]
        if seeds:
            gain = fmean(reached[arm, seed] - reached[BASELINE, seed] for seed in seeds)
            gains[arm] = (gain, len(seeds))
    return gains


def _with_equal_steps(benchmark: Benchmark, images_per_class: Sequence[int]) -> Benchmark:
    """Return the benchmark with as many optimiser steps in every arm as all images need."""
    training = benchmark.base["training"]
    if training["steps_per_epoch"]:
        return benchmark
    images = (1 + benchmark.budget) * sum(images_per_class)
    steps = math.ceil(images / training["batch_size"])
    return replace(benchmark, base=merged(benchmark.base, {"training": {"steps_per_epoch": steps}}))


def _standings(
    gains: Mapping[str, tuple[float, int]], going_on: Sequence[str]
) -> tuple[Standing, ...]:
    return tuple(
        Standing(arm=arm, gain=gain, seeds=seeds, goes_on=arm in going_on)
        for arm, (gain, seeds) in sorted(gains.items(), key=lambda item: -item[1][0])
    )


def _rung_sentence(rung: Sequence[Standing]) -> str:
    found = ", ".join(f"{standing.arm} {100 * standing.gain:+.1f}" for standing in rung)
    seeds = counted(max(standing.seeds for standing in rung), "seed", "seeds")
    going_on = ", ".join(standing.arm for standing in rung if standing.goes_on)
    return (
        f"On validation, points above real images alone after {seeds}: {found}. Goes on: {going_on}"
    )


def _concluded(
    rungs: tuple[tuple[Standing, ...], ...],
    arms: Sequence[str],
    last: Sequence[Mapping[str, Any]],
    runs: _Runs,
) -> Screening:
    """Return the outcome, its recommended settings written into the folder."""
    top1 = {
        arm: {row["seed"]: row["top1"] for row in last if row["arm"] == arm}
        for arm in (BASELINE, arms[0])
    }
    shared = top1[BASELINE].keys() & top1[arms[0]].keys() & {*runs.benchmark.seeds}
    found = paired_difference(top1[arms[0]], top1[BASELINE]) if len(arms) == 1 and shared else None
    recommended = arms[0] if found is not None and found.low > 0 else BASELINE
    sentence = _sentence(arms, found, planned=len(runs.benchmark.seeds))
    file = None
    if last:
        config = runs.tasks([recommended], runs.benchmark.seeds[:1])[0].config
        file = runs.out / RECOMMENDED_FILE
        files.write_bytes(file, _as_one_run(config, runs.benchmark).to_toml().encode())
    return Screening(
        rungs=rungs, arm=arms[0], difference=found, recommended=recommended, sentence=sentence,
        file=file, rows=tuple(runs.rows()),
    )  # fmt: skip


def _as_one_run(config: RunConfig, benchmark: Benchmark) -> RunConfig:
    """Return the settings of a task without what only holds for many runs side by side."""
    base = RunConfig.from_dict(dict(benchmark.base))
    return replace(
        config,
        threads=base.threads,
        agent=replace(config.agent, guard=base.agent.guard),
        generation=replace(config.generation, executor=base.generation.executor),
        training=replace(config.training, processes=base.training.processes),
    )


def _sentence(arms: Sequence[str], found: Difference | None, *, planned: int) -> str:
    if len(arms) > 1 or found is None:
        return (
            f"The hours were over before {arms[0] if len(arms) == 1 else 'any arm'} was compared "
            "with real images alone on fresh seeds: nothing is recommended but real images alone. "
            "Give more --hours with the same --out; finished runs are kept"
        )
    seeds = counted(found.count, "fresh seed", "fresh seeds")
    few = f" of {planned}" if found.count < planned else ""
    if found.count < 2:
        return (
            f"{arms[0]} is {100 * found.mean:+.1f} points of test accuracy from real images alone "
            f"on {seeds}{few}; one seed has no interval, so real images alone are recommended. "
            "Give more --seeds or --hours with the same --out"
        )
    interval = f"{100 * found.mean:+.1f} [{100 * found.low:+.1f}, {100 * found.high:+.1f}]"
    told = f"{arms[0]} minus real images alone on {seeds}{few}: {interval} points of test accuracy"
    if found.low > 0:
        return f"{told}. Recommended: {arms[0]}"
    if found.high < 0:
        return f"{told}. Recommended: real images alone; these strategies do harm here"
    return (
        f"{told}: not beyond chance. Recommended: real images alone; more --seeds with the same "
        "--out may decide it"
    )
