"""Every arm at the reference's wall-clock budget: epochs by hand, and a small real experiment."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

import pytest
from equal_time import frozen_costs, run_equal_time, timed_arms, timed_task, with_epochs
from time_costs import ArmCost

from gendataagent.agent.schedule import Schedule
from gendataagent.config import RunConfig
from gendataagent.core import files
from gendataagent.core.errors import ConfigError, RunFolderError
from gendataagent.experiments import Benchmark, plan_experiment, read_rows
from gendataagent.experiments.benchmarks import Task
from gendataagent.experiments.runner import folder_of
from tests.tables import rows_of

pytestmark = pytest.mark.integration

FREE = ArmCost(
    step_seconds=0.5, images=0, image_seconds=0.0, captions=0, caption_seconds=0.0,
    rewrite_seconds=0.0, select_seconds=0.0, filter_seconds=0.0, probe_seconds=0.0,
    adapt_seconds=0.0,
)  # fmt: skip


def settings(first_round_epoch: int, *, epochs: int = 30, rounds: int = 2) -> RunConfig:
    return RunConfig.from_dict(
        {
            "training": {"epochs": epochs, "steps_per_epoch": 4},
            "agent": {"rounds": rounds, "first_round_epoch": first_round_epoch},
            "filter": {"snapshot_at": [0.1, 0.15, 0.2]},
        }
    )


@pytest.mark.parametrize(
    ("first", "epochs", "rounds", "snapshots"),
    [
        (6, 60, (12, 36), (6, 9, 12)),
        (6, 30, (6, 18), (3, 4, 6)),
        (6, 25, (5, 15), (2, 4, 5)),
        (0, 60, (0, 30), (6, 9, 12)),
        (-1, 60, (20, 40), (6, 9, 12)),
    ],
)
def test_rounds_and_snapshots_stay_at_their_fractions_of_the_training(
    first: int, epochs: int, rounds: tuple[int, ...], snapshots: tuple[int, ...]
) -> None:
    changed = with_epochs(settings(first), epochs)
    assert changed.training.epochs == epochs
    assert Schedule.from_config(changed) == Schedule(rounds, snapshots, rounds)
    assert RunConfig.from_dict(changed.to_dict()) == changed
    assert with_epochs(changed, 30) == settings(first)


@pytest.mark.parametrize(("first", "least"), [(6, 4), (0, 3), (-1, 4), (29, 4)])
def test_there_are_always_enough_epochs_for_the_rounds(first: int, least: int) -> None:
    config = with_epochs(settings(first, rounds=3, epochs=40), 1)
    assert config.training.epochs == least
    assert RunConfig.from_dict(config.to_dict()) == config
    rounds = Schedule.from_config(config).round_epochs
    assert len(set(rounds)) == 3
    assert (rounds[0] == 0) == (first == 0)


def test_rounds_within_an_early_part_keep_their_fraction() -> None:
    config = settings(0, rounds=3, epochs=40)
    early = replace(config, agent=replace(config.agent, rounds_within=0.5))
    assert Schedule.from_config(with_epochs(early, 60)).round_epochs == (0, 10, 20)
    assert with_epochs(early, 1).training.epochs == 6


def test_without_rounds_one_epoch_is_enough() -> None:
    config = replace(settings(6), agent=replace(settings(6).agent, enabled=False))
    assert with_epochs(config, 1).training.epochs == 1
    assert with_epochs(config, 90).agent == config.agent


def test_seconds_not_spent_on_images_become_training() -> None:
    config = settings(6)  # 30 epochs of 4 steps
    tasks = [
        Task(arm=arm, seed=seed, config=replace(config, seed=seed))
        for seed in (0, 1)
        for arm in ("agent", "free", "slow", "dear")
    ]
    costs = {
        "agent": replace(FREE, images=100, image_seconds=0.3, filter_seconds=8.0),  # 38 + 60
        "free": FREE,
        "slow": replace(FREE, step_seconds=1.0, captions=10, caption_seconds=0.1),
        "dear": replace(FREE, images=100, image_seconds=0.5),
    }
    arms = timed_arms(tasks, costs, "agent")
    # 98 s / 2 s; (98 - 1) / 4; (98 - 50) / 2
    assert {name: arm.epochs for name, arm in arms.items()} == {
        "agent": 30, "free": 49, "slow": 24, "dear": 24,
    }  # fmt: skip
    assert {name: arm.seconds for name, arm in arms.items()} == {
        "agent": 98, "free": 98, "slow": 97, "dear": 98,
    }  # fmt: skip
    nothing_left = timed_arms(tasks, {**costs, "dear": replace(FREE, adapt_seconds=500.0)}, "agent")
    assert nothing_left["dear"].epochs == 3  # two rounds after the first epoch
    alone = replace(config, agent=replace(config.agent, enabled=False))
    without_rounds = [*tasks, Task(arm="real", seed=0, config=alone)]
    costs["real"] = replace(FREE, step_seconds=1000.0)
    assert timed_arms(without_rounds, costs, "agent")["real"].epochs == 1

    assert timed_task(tasks[0], 30) is tasks[0]
    longer = timed_task(tasks[1], 49)
    assert (longer.arm, longer.seed, longer.config.training.epochs) == ("free@time", 0, 49)
    assert longer.name.startswith("free@time-seed0-")


@pytest.mark.slow
def test_costs_are_fitted_once(benchmark: Benchmark, out: Path) -> None:
    tasks = {task.arm: task for task in plan_experiment(benchmark)}
    folder = folder_of(tasks["vog-only"], out)
    rows = [row for number in "01" for row in
            files.read_jsonl(folder / "rounds" / f"00{number}" / "rendered.jsonl")]  # fmt: skip
    metrics = files.read_jsonl(folder / "metrics.jsonl")
    costs = frozen_costs(list(tasks.values()), out)
    vog, at_random = costs["vog-only"], costs["at-random"]
    # The first arm rendered the images, the other one read them from disk.
    each = [row["seconds"] / len(row["made"]) for row in rows for _ in row["made"]]
    assert vog.image_seconds == at_random.image_seconds == pytest.approx(median(each))
    assert vog.images == at_random.images == 24
    judged = [rows_of(folder / "rounds" / f"00{n}" / "judged.parquet") for n in "01"]
    assert vog.captions == len({row["source_id"] for rows in judged for row in rows})
    records = [files.read_json(folder / "rounds" / f"00{n}" / "record.json") for n in "01"]
    assert vog.filter_seconds == sum(record["seconds"]["filter"] for record in records)
    # The first of its four epochs is a copy of the shared warm-up.
    assert vog.step_seconds == median(row["seconds"] / 2 for row in metrics[1:])
    assert costs["only-real"].beside_training == 0

    for row in metrics:
        row["seconds"] *= 100
    files.write_jsonl(folder / "metrics.jsonl", metrics)
    assert frozen_costs(list(tasks.values()), out) == costs
    # A new arm is fitted; the others are unchanged.
    written = files.read_json(out / "equal-time.json")
    one = next(kind for kind, row in written["arms"].items() if row["arm"] == "at-random")
    row = written["arms"].pop(one)
    written["images"] = dict.fromkeys(written["images"], 77.0)
    files.write_json(out / "equal-time.json", written)
    again = frozen_costs(list(tasks.values()), out)
    assert again["vog-only"] == vog
    assert again["at-random"] == replace(at_random, image_seconds=77.0)
    assert row["seeds"] == 1


@pytest.mark.slow
def test_all_arms_get_the_wall_clock_budget_of_one(benchmark: Benchmark, out: Path) -> None:
    tasks = plan_experiment(benchmark)
    frozen_costs(tasks, out)
    written = files.read_json(out / "equal-time.json")
    for row in written["arms"].values():
        with_images = {"images": 24, "image_seconds": 0.25, "filter_seconds": 2.0}
        own = {"only-real": {}, "vog-only": with_images,
               "at-random": {**with_images, "filter_seconds": 0.0}}[row["arm"]]  # fmt: skip
        row.update({**FREE.to_json(), **own})
    files.write_json(out / "equal-time.json", written)
    before = _marks(out)

    rows = run_equal_time(benchmark, out, reference="vog-only", jobs=1)
    # 4 epochs of 2 steps of 0.5 s, and 8 s beside it: 12 epochs, or 6 and 6 s of images
    assert [(row["arm"], row["epochs"], row["optimizer_steps"]) for row in rows] == [
        ("only-real", 12, 24), ("vog-only", 4, 8), ("at-random", 6, 12),
    ]  # fmt: skip
    assert [row["predicted_seconds"] for row in rows] == [12, 12, 12]
    assert read_rows(out / "results-equal-time.parquet") == rows
    assert len(read_rows(out / "results.parquet")) == 3
    names = sorted(path.name.rpartition("-")[0] for path in (out / "runs").iterdir())
    assert names == ["at-random-seed7", "at-random@time-seed7", "only-real-seed7",
                     "only-real@time-seed7", "vog-only-seed7"]  # fmt: skip
    at_random = next(path for path in (out / "runs").glob("at-random@time*"))
    records = sorted(at_random.glob("rounds/*/record.json"))
    assert [files.read_json(path)["epoch"] for path in records] == [2, 4]
    text = (out / "results-equal-time.md").read_text("utf-8")
    for part in (
        "# small, equal wall-clock time", "Budget: the 12 seconds that `vog-only` takes for its "
        "own run, 4 epochs, 8 optimiser steps,", "`equal-time.json`",
        "| vog-only | 500.0 | 24 | 250.0 | 0 | 0.00 | 0.0 | 0.0 | 2.0 | 0.0 | 0.0 | 8.0 |",
        "| only-real | 12 | 24 | 12 |",
    ):  # fmt: skip
        assert part in text

    assert "## Differences" in text
    assert "Budget: the 12 seconds" in (out / "results-equal-time.html").read_text("utf-8")
    assert list((out / "plots-equal-time").glob("*.svg"))

    # A second call runs nothing and changes nothing; earlier runs were not touched.
    after = _marks(out)
    assert after.items() >= before.items()
    assert run_equal_time(benchmark, out, reference="vog-only", jobs=1) == rows
    assert _marks(out) == after


def _marks(out: Path) -> dict[str, int]:
    return {path.parent.name: path.stat().st_mtime_ns for path in out.glob("runs/*/DONE")}


@pytest.mark.slow
def test_the_experiment_at_equal_steps_must_be_finished(benchmark: Benchmark, out: Path) -> None:
    more = replace(benchmark, seeds=(7, 8))
    with pytest.raises(
        RunFolderError,
        match=r"lacks 3 of its 6 runs: only-real seed 8, vog-only seed 8, at-random seed 8\. Run "
        r"it first.*: gendataagent experiment small --out ",
    ):
        run_equal_time(more, out, reference="vog-only")
    assert not (out / "equal-time.json").exists()


@pytest.mark.slow
def test_an_unknown_reference_and_epochs_of_no_fixed_length_are_refused(
    benchmark: Benchmark, tmp_path: Path
) -> None:
    with pytest.raises(
        ConfigError, match=r"has no arm 'gendataagent' as .* only-real, vog-only, at-"
    ):
        run_equal_time(benchmark, tmp_path)
    loose: dict[str, Any] = {"training": {"steps_per_epoch": 0}}
    with pytest.raises(ConfigError, match=r"a fixed training\.steps_per_epoch, got 0"):
        run_equal_time(benchmark, tmp_path, reference="vog-only", settings=loose)


@pytest.mark.slow
def test_a_torn_line_of_rendered_images_is_ignored(benchmark: Benchmark, out: Path) -> None:
    tasks = plan_experiment(benchmark)
    (first, *_) = (out / "runs").glob("vog-only*/rounds/000/rendered.jsonl")
    line = json.dumps({"seconds": 1e6, "made": {}})
    first.write_bytes(first.read_bytes() + line[:-4].encode())
    assert frozen_costs(tasks, out)["vog-only"].image_seconds < 1e3
