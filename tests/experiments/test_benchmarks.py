"""Benchmarks: the same budget for every arm, arms and seeds by name."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from gendataagent.agent.budget import generated_images
from gendataagent.config.strategies import PEERS, STRATEGIES
from gendataagent.core import devices
from gendataagent.core.errors import ConfigError
from gendataagent.core.steps import executed_steps
from gendataagent.experiments import all_benchmarks, find_benchmark
from gendataagent.experiments.benchmarks import Arm, Benchmark, parse_seeds, tasks_of
from gendataagent.runs.preflight import problems

PER_CLASS = [50] * 10


@pytest.mark.parametrize("benchmark", all_benchmarks(), ids=lambda benchmark: benchmark.name)
def test_every_arm_of_every_benchmark_has_valid_settings_and_the_same_budget(
    benchmark: Benchmark,
) -> None:
    arms = {arm.name: arm for arm in benchmark.arms}
    assert len(arms) == len(benchmark.arms)
    assert benchmark.baseline in arms
    assert set(benchmark.paper) <= set(arms)
    tasks = tasks_of(benchmark, images_per_class=PER_CLASS, settings={})
    assert len(tasks) == len(benchmark.arms) * len(benchmark.seeds)
    assert len({task.name for task in tasks}) == len(tasks)
    for task in tasks:
        assert not list(problems(task.config))
        assert task.config.seed == task.seed
        if not task.config.agent.enabled:
            continue
        times = arms[task.arm].budget
        wanted = (benchmark.budget if times is None else times) * sum(PER_CLASS)
        made = generated_images(task.config, PER_CLASS)
        allowed = 0.01 * wanted
        if task.config.selection.per_class:  # an integer number per class and round
            allowed = max(allowed, len(PER_CLASS) * task.config.agent.rounds / 2)
        assert abs(made - wanted) <= allowed, (task.arm, made)


def test_two_benchmarks_compare_every_strategy() -> None:
    own = {arm.name for arm in find_benchmark("fewshot-cifar10").arms}
    assert own == set(STRATEGIES) - set(PEERS)
    peers = [arm.name for arm in find_benchmark("peers").arms]
    assert peers[:2] == ["only-real", "real-fake"]
    named = {  # arms only by name
        "retrieval", "datadream", "datadream-cls", "bob", "saspa", "da-fusion-tokens",
        "diff-mix-tokens",
    }  # fmt: skip
    plain = {arm for arm in peers if not arm.endswith("-feedback")}
    assert plain - own == set(PEERS) - named
    assert {arm.removesuffix("-feedback") for arm in set(peers) - plain} <= set(PEERS)


@pytest.mark.parametrize("units", [True, False])
def test_an_experiment_decides_precision_for_all_its_runs(
    units: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(devices, "has_bfloat16_units", lambda: units)
    benchmark = replace(find_benchmark("table1"), seeds=(0,))
    tasks = tasks_of(benchmark, images_per_class=PER_CLASS, settings={"device": "cpu"})
    chosen = {(t.config.training.mixed_precision, t.config.generation.dtype) for t in tasks}
    assert chosen == {("bf16", "bfloat16") if units else ("no", "float32")}


def test_the_filter_sweep_differs_only_in_the_filter() -> None:
    tasks = tasks_of(find_benchmark("table4"), images_per_class=PER_CLASS, settings={})
    swept = {t.arm: t.config for t in tasks if t.seed == 0 and t.arm[-4:] == "0.50"}
    assert set(swept) == {"vog-high-0.50", "vog-low-0.50", "random-0.50"}
    high = swept["vog-high-0.50"]
    assert high.filter.keep == "high"
    for config in swept.values():
        assert config.filter.drop_share == 0.5
        assert replace(config, filter=high.filter) == high
    assert swept["vog-low-0.50"].filter.keep == "low"
    assert swept["random-0.50"].filter.by == "random"


def test_the_speed_study_executes_the_steps_in_its_arms_names_and_shares_no_images() -> None:
    tasks = tasks_of(find_benchmark("speed"), images_per_class=PER_CLASS, settings={})
    arms = {task.arm: task.config.generation for task in tasks}
    for name, settings in arms.items():
        executed = executed_steps(settings.steps, settings.strength)
        number = name.rpartition("-")[2]
        if name.startswith(("steps", "no-guidance")):
            assert executed == int(number)
            assert (settings.guidance > 1) == name.startswith("steps")
        elif name != "only-real":
            assert executed == 8
        assert settings.merge_tokens == (float(number) if name.startswith("merged") else 0.0)
    assert [arms[f"feedback-{d}"].feedback_decoder for d in ("vae", "half")] == ["vae", "half"]
    assert arms["feedback-vae"].feedback != "none" == arms["steps-8"].feedback
    assert not any(task.shares_images for task in tasks)


def test_settings_of_the_user_override_the_base() -> None:
    (task,) = tasks_of(
        replace(find_benchmark("table1"), arms=(Arm(name="a", strategy="real-fake"),), seeds=(7,)),
        images_per_class=[10, 10],
        settings={"data": {"path": "mine"}, "generation": {"strength": 0.6}},
    )
    assert (task.seed, task.config.data.path, task.config.generation.strength) == (7, "mine", 0.6)
    assert task.config.data.train_per_class == 50  # the base's


def test_arms_are_chosen_by_name_strategies_and_files_too(tmp_path: Path) -> None:
    mine = tmp_path / "mine.toml"
    mine.write_text('like = "gendataagent"\n[filter]\ndrop_share = 0.6\n')
    benchmark = find_benchmark("table1").with_arms(["real-fake", "vog-low", str(mine)])
    assert [arm.name for arm in benchmark.arms] == ["real-fake", "vog-low", "mine"]
    tasks = tasks_of(replace(benchmark, seeds=(0,)), images_per_class=PER_CLASS, settings={})
    assert tasks[2].config.filter.drop_share == 0.6


def test_unknown_names_are_reported_with_a_suggestion() -> None:
    with pytest.raises(ConfigError, match="unknown experiment 'tabel1'; did you mean table1"):
        find_benchmark("tabel1")
    with pytest.raises(ConfigError, match="unknown arm or strategy 'real-fke'; did you"):
        find_benchmark("table1").with_arms(["real-fke"])


@pytest.mark.parametrize(
    ("text", "seeds"),
    [("2", (0, 1)), ("10-12", (10, 11, 12)), ("0,3, 7", (0, 3, 7)), ("4-5,4", (4, 5)), ("0", (0,))],
)
def test_seeds_are_a_count_a_range_or_a_list(text: str, seeds: tuple[int, ...]) -> None:
    assert parse_seeds(text) == seeds


@pytest.mark.parametrize(
    "text", ["", "-3", "5-3", "1,,2", "two", "1.5", "9" * 5000, "9" * 15, "0-999999999999"]
)
def test_invalid_seeds_are_refused_with_what_is_allowed(text: str) -> None:
    with pytest.raises(ConfigError, match="10-19"):
        parse_seeds(text)
