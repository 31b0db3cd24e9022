"""A screening keeps the better half by validation, and recommends only what fresh seeds show."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gendataagent.config import RunConfig
from gendataagent.config.settings import read_settings_of_run
from gendataagent.core.errors import ConfigError
from gendataagent.experiments import screening
from gendataagent.experiments.benchmarks import Benchmark, tasks_of
from gendataagent.experiments.screening import (
    BASELINE,
    RECOMMENDED_FILE,
    _with_equal_steps,
    estimated_seconds,
    rungs_of,
    screen,
    screening_benchmark,
    survivors,
    validation_gains,
)
from gendataagent.experiments.statistics import Difference
from gendataagent.runs.planning import make_plan
from tests.small_world import settings_for

PER_CLASS = [8, 8]


def row(arm: str, seed: int, validation: float | None) -> dict[str, Any]:
    return {"arm": arm, "seed": seed, "validation": validation, "top1": validation, "seconds": 10.0}


def test_the_better_half_goes_on_and_equals_keep_their_order() -> None:
    assert survivors({"a": 0.0, "b": 0.2, "c": 0.1, "d": 0.1, "e": -1.0}) == ["b", "c", "d"]
    assert survivors({"a": 0.1, "b": 0.1}) == ["a"]
    assert survivors({"a": -0.5}) == ["a"]


def test_gains_are_paired_with_real_images_alone() -> None:
    rows = [row(BASELINE, 100, 0.5), row(BASELINE, 101, 0.6), row("a", 100, 0.6),
            row("a", 101, 0.6), row("b", 101, 0.5), row("c", 102, 0.9)]  # fmt: skip
    gains = validation_gains(rows, ["a", "b", "c", "d"])
    assert {arm: (round(gain, 9), seeds) for arm, (gain, seeds) in gains.items()} == {
        "a": (0.05, 2),
        "b": (-0.1, 1),
    }


def test_without_validation_images_nothing_can_be_chosen() -> None:
    with pytest.raises(ConfigError, match=r"data\.validation_share"):
        validation_gains([row(BASELINE, 100, None)], ["a"])


@pytest.mark.parametrize(
    ("found", "ends_with"),
    [
        (Difference(mean=0.02, low=0.01, high=0.03, count=5), "Recommended: a"),
        (Difference(mean=0.02, low=-0.01, high=0.05, count=5), "may decide it"),
        (Difference(mean=-0.02, low=-0.03, high=-0.01, count=5), "do harm here"),
    ],
)
def test_only_what_is_beyond_chance_is_recommended(found: Difference, ends_with: str) -> None:
    sentence = screening._sentence(["a"], found, planned=5)
    assert sentence.endswith(ends_with)
    assert f"{100 * found.mean:+.1f} [{100 * found.low:+.1f}, {100 * found.high:+.1f}]" in sentence


class Made:
    """Stands in for the runs: validation accuracy by arm; keeps what was asked for."""

    def __init__(self, reached: dict[str, float], test: dict[str, float] | None = None) -> None:
        self.reached, self.test = reached, test or reached
        self.done: dict[str, dict[str, Any]] = {}
        self.order: list[tuple[str, int]] = []
        self.now_s = 0.0

    def run(self, tasks: Any, out: Path, results: Path, *, too_late: Any, **_: Any) -> None:
        for task in tasks:
            if task.name not in self.done:
                if too_late(task):
                    return
                self.order.append((task.arm, task.seed))
                self.now_s += 10.0
                noise = 0.001 * (task.seed % 3)
                self.done[task.name] = row(task.arm, task.seed, self.reached[task.arm] + noise) | {
                    "top1": self.test[task.arm] + noise * (task.arm != BASELINE)
                }

    def collect(self, tasks: Any, out: Path) -> list[dict[str, Any]]:
        return [self.done[task.name] for task in tasks if task.name in self.done]


@pytest.fixture
def benchmark(tmp_path: Path) -> Benchmark:
    settings = settings_for(tmp_path / "photos", tmp_path / "generator")
    found = screening_benchmark(
        settings, ["real-fake-plus", "gendataagent", "gendataagent-plus", "rewrite-only"]
    )
    return replace(found, seeds=(0, 1, 2))


def screened(
    benchmark: Benchmark, made: Made, monkeypatch: pytest.MonkeyPatch, out: Path, **options: Any
) -> screening.Screening:
    monkeypatch.setattr(screening, "run_and_collect", made.run)
    monkeypatch.setattr(screening, "collect", made.collect)
    monkeypatch.setattr(f"{screening.__name__}.time.monotonic", lambda: made.now_s)
    out.mkdir(exist_ok=True)
    return screen(benchmark, out, images_per_class=PER_CLASS, jobs=1, **options)


REACHED = {BASELINE: 0.5, "real-fake-plus": 0.6, "gendataagent": 0.4, "gendataagent-plus": 0.7,
           "rewrite-only": 0.55}  # fmt: skip


def test_halving(benchmark: Benchmark, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    made = Made(REACHED)
    outcome = screened(benchmark, made, monkeypatch, tmp_path / "out")
    rungs = [[(standing.arm, standing.seeds) for standing in rung] for rung in outcome.rungs]
    assert rungs == [
        [("gendataagent-plus", 1), ("real-fake-plus", 1), ("rewrite-only", 1), ("gendataagent", 1)],
        [("gendataagent-plus", 2), ("real-fake-plus", 2)],
    ]
    assert outcome.recommended == outcome.arm == "gendataagent-plus"
    assert outcome.difference is not None
    assert outcome.difference.count == 3
    assert {seed for arm, seed in made.order if arm == "rewrite-only"} == {100}
    assert {seed for arm, seed in made.order if arm == BASELINE} == {100, 101, 0, 1, 2}
    config = RunConfig.from_dict(read_settings_of_run(tmp_path / "out" / RECOMMENDED_FILE))
    assert config.agent.pool == "accumulate"
    assert config.threads == benchmark.base["threads"]
    assert config.agent.guard == benchmark.base["agent"]["guard"]
    assert "gendataagent-plus +20.0" in outcome.facts[1]


def test_rungs_are_counted_as_they_are_run(
    benchmark: Benchmark, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    made = Made(REACHED)
    screened(benchmark, made, monkeypatch, tmp_path / "out")
    arms = len(benchmark.arms) - 1
    counted = sum((1 + left) * further for left, further in rungs_of(arms))
    assert len(made.order) == counted + 2 * len(benchmark.seeds)


def test_the_estimate_is_the_sum_of_the_plans() -> None:
    base = RunConfig.from_dict({"training": {"epochs": 20}, "agent": {"rounds": 2}})
    images = [100] * 10  # of bundled:cifar10
    one = replace(screening_benchmark(base, ["gendataagent"]), seeds=(0, 1, 2))
    found = estimated_seconds(one, images)
    assert found is not None
    planned = tasks_of(_with_equal_steps(one, images), images_per_class=images, settings={})
    plans = [make_plan(task.config).seconds or 0.0 for task in planned]
    assert found == pytest.approx((sum(plans), sum(plans)))
    several = replace(screening_benchmark(base), seeds=(0, 1, 2))
    spread = estimated_seconds(several, images)
    assert spread is not None
    assert found[0] < spread[0] < spread[1]


def test_all_arms_take_the_same_steps(
    benchmark: Benchmark, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    base = {**benchmark.base, "training": {**benchmark.base["training"], "steps_per_epoch": 0}}
    steps: set[int] = set()

    class Steps(Made):
        def run(self, tasks: Any, out: Path, results: Path, **options: Any) -> None:
            steps.update(task.config.training.steps_per_epoch for task in tasks)
            super().run(tasks, out, results, **options)

    screened(replace(benchmark, base=base), Steps(REACHED), monkeypatch, tmp_path / "out")
    assert len(steps) == 1
    assert steps.pop() * base["training"]["batch_size"] >= 2 * sum(PER_CLASS)


def test_the_test_images_do_not_choose(
    benchmark: Benchmark, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    test = {**REACHED, "gendataagent-plus": 0.3, "gendataagent": 0.9}
    outcome = screened(benchmark, Made(REACHED, test), monkeypatch, tmp_path / "out")
    assert outcome.arm == "gendataagent-plus"  # by validation, though the worst on test
    assert outcome.recommended == BASELINE
    config = RunConfig.from_dict(read_settings_of_run(tmp_path / "out" / RECOMMENDED_FILE))
    assert not config.agent.enabled


def test_resumed_it_runs_nothing_twice(
    benchmark: Benchmark, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    class Stopped(Made):
        def run(self, *args: Any, too_late: Any, **options: Any) -> None:
            def stop(task: Any) -> bool:
                if len(self.order) in (3, 9):
                    raise KeyboardInterrupt
                return bool(too_late(task))

            super().run(*args, too_late=stop, **options)

    made = Stopped(REACHED)
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            screened(benchmark, made, monkeypatch, tmp_path / "out")
        made.order.append(("stopped", -1))
    outcome = screened(benchmark, made, monkeypatch, tmp_path / "out")
    ran = [task for task in made.order if task[1] >= 0]
    assert len(ran) == len(set(ran)) == 14
    whole = Made(REACHED)
    again = screened(benchmark, whole, monkeypatch, tmp_path / "whole")
    assert again.facts == outcome.facts


def test_hours_end_the_rungs_and_leave_half_for_the_last_comparison(
    benchmark: Benchmark, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    hours = 130 / 3600  # 13 runs of 10 s
    made = Made(REACHED)
    outcome = screened(benchmark, made, monkeypatch, tmp_path / "out", hours=hours)
    assert len([seed for _, seed in made.order if seed >= 100]) == 6  # 65 s
    assert len(outcome.rungs) == 2
    assert [standing.goes_on for standing in outcome.rungs[1]] == [True, False]
    assert len([seed for _, seed in made.order if seed < 100]) == 6


def test_hours_too_few_recommend_nothing_untested(
    benchmark: Benchmark, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    outcome = screened(benchmark, Made(REACHED), monkeypatch, tmp_path / "out", hours=15 / 3600)
    assert outcome.difference is None
    assert outcome.recommended == BASELINE
    assert "--hours" in outcome.sentence
    config = RunConfig.from_dict(read_settings_of_run(tmp_path / "out" / RECOMMENDED_FILE))
    assert not config.agent.enabled


def test_a_run_without_the_agent_is_no_base() -> None:
    with pytest.raises(ConfigError, match=r"agent\.enabled"):
        screening_benchmark(RunConfig.from_dict({"agent": {"enabled": False}}))
