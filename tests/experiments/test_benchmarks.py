"""What an experiment consists of: the same budget for every arm, arms and seeds by name."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from gendataagent.agent.budget import generated_images
from gendataagent.config.strategies import STRATEGIES
from gendataagent.core.errors import ConfigError
from gendataagent.experiments import all_benches, find_bench
from gendataagent.experiments.benchmarks import Arm, Bench, tasks_of
from gendataagent.runs.preflight import problems

PER_CLASS = [50] * 10


@pytest.mark.parametrize("bench", all_benches(), ids=lambda bench: bench.name)
def test_every_arm_of_every_experiment_has_right_settings_and_the_same_budget(
    bench: Bench,
) -> None:
    arms = {arm.name: arm for arm in bench.arms}
    assert len(arms) == len(bench.arms)
    assert bench.baseline in arms
    assert set(bench.paper) <= set(arms)
    tasks = tasks_of(bench, images_per_class=PER_CLASS, settings={})
    assert len(tasks) == len(bench.arms) * len(bench.seeds)
    assert len({task.name for task in tasks}) == len(tasks)
    for task in tasks:
        assert not list(problems(task.config))
        assert task.config.seed == task.seed
        if not task.config.agent.enabled:
            continue
        times = arms[task.arm].budget
        wanted = (bench.budget if times is None else times) * sum(PER_CLASS)
        made = generated_images(task.config, PER_CLASS)
        allowed = 0.01 * wanted
        if task.config.selection.per_class:  # whole photographs of every class, every round
            allowed = max(allowed, len(PER_CLASS) * task.config.agent.rounds / 2)
        assert abs(made - wanted) <= allowed, (task.arm, made)


def test_all_systems_are_compared_on_few_photographs() -> None:
    assert {arm.name for arm in find_bench("fewshot-cifar10").arms} == set(STRATEGIES)


def test_the_sweep_of_the_filter_differs_in_the_filter_alone() -> None:
    tasks = tasks_of(find_bench("table4"), images_per_class=PER_CLASS, settings={})
    swept = {t.arm: t.config for t in tasks if t.seed == 0 and t.arm[-4:] == "0.50"}
    assert set(swept) == {"vog-high-0.50", "vog-low-0.50", "random-0.50"}
    high = swept["vog-high-0.50"]
    assert high.filter.keep == "high"
    for config in swept.values():
        assert config.filter.drop_share == 0.5
        assert replace(config, filter=high.filter) == high
    assert swept["vog-low-0.50"].filter.keep == "low"
    assert swept["random-0.50"].filter.by == "random"


def test_settings_of_the_user_are_laid_over_the_base() -> None:
    (task,) = tasks_of(
        replace(find_bench("table1"), arms=(Arm(name="a", strategy="real-fake"),), seeds=(7,)),
        images_per_class=[10, 10],
        settings={"data": {"path": "mine"}, "generation": {"strength": 0.6}},
    )
    assert (task.seed, task.config.data.path, task.config.generation.strength) == (7, "mine", 0.6)
    assert task.config.data.train_per_class == 50  # the base's, next to what was changed


def test_arms_are_taken_by_name_strategies_and_files_too(tmp_path: Path) -> None:
    mine = tmp_path / "mine.toml"
    mine.write_text('like = "gendataagent"\n[filter]\ndrop_share = 0.6\n')
    bench = find_bench("table1").with_arms(["real-fake", "vog-low", str(mine)])
    assert [arm.name for arm in bench.arms] == ["real-fake", "vog-low", "mine"]
    tasks = tasks_of(replace(bench, seeds=(0,)), images_per_class=PER_CLASS, settings={})
    assert tasks[2].config.filter.drop_share == 0.6


def test_names_that_stand_for_nothing_are_told() -> None:
    with pytest.raises(ConfigError, match="no experiment 'tabel1'; did you mean table1"):
        find_bench("tabel1")
    with pytest.raises(ConfigError, match="no arm or strategy 'real-fke'; did you mean real-fake"):
        find_bench("table1").with_arms(["real-fke"])
