"""`presets` and `plan` as a user types them, and a plan compared with its run."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from gendataagent import cli
from gendataagent.agent.pool import Pool
from gendataagent.cli import plan as _registers_the_commands
from gendataagent.config import RunConfig
from gendataagent.config.presets import list_presets
from gendataagent.config.strategies import STRATEGIES
from gendataagent.core.files import read_jsonl
from gendataagent.core.run_folder import RunFolder
from gendataagent.runs.planning import make_plan
from gendataagent.runs.run import run
from tests.data.formats.test_folder import save

assert _registers_the_commands


def _type(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    """Run `gendataagent ARGUMENTS` and return its exit code."""
    monkeypatch.setattr(sys, "argv", ["gendataagent", *arguments])
    monkeypatch.setenv("COLUMNS", "200")
    with pytest.raises(SystemExit) as exit_:
        cli.main()
    return int(exit_.value.code or 0)


@pytest.mark.integration
@pytest.mark.parametrize("pool", ["replace", "accumulate"])
def test_a_plan_equals_the_counts_of_the_run(
    small_config: RunConfig, tmp_path: Path, pool: str
) -> None:
    config = replace(
        small_config,
        agent=replace(small_config.agent, pool=pool, baseline=pool == "replace"),
        training=replace(small_config.training, steps_per_epoch=0),
        filter=replace(small_config.filter, by="none"),
    )
    plan = make_plan(config)
    result = run(config, tmp_path / "run")
    folder = RunFolder.open(tmp_path / "run")
    counts, rounds = plan.counts, result.rounds
    assert counts.rounds == len(rounds)
    assert {counts.selected_per_round} == {record.selected for record in rounds}
    assert {counts.images_per_round} == {record.made for record in rounds}
    assert counts.images == counts.rewrites == result.images_made
    captioned = {c.source_id for n in range(2) for c in Pool(folder, ()).candidates(n)}
    assert counts.captions_least <= len(captioned) <= counts.captions_most
    trained = read_jsonl(folder.metrics_file)
    steps = [row["optimizer_steps"] for row in trained]
    images = sum(row["real_images"] + row["synthetic_images"] for row in trained)
    if result.baseline is not None:  # as many steps on the real images alone, in full batches
        of_baseline = read_jsonl(RunFolder.open(folder.baseline).metrics_file)
        assert [row["optimizer_steps"] for row in of_baseline] == steps
        images += sum(steps) * config.training.batch_size
        steps *= 2
    assert counts.optimizer_steps == sum(steps)
    assert counts.training_images == images
    manifest = json.loads(folder.manifest_file.read_text())
    assert manifest["images_per_split"] == {
        "train": plan.real.train, "validation": plan.real.validation, "test": plan.real.test
    }  # fmt: skip


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ((), "! Read the first folders as the 2 classes (animals, vehicles)"),
        (("--set", "data.class_folder=last"), "! No test split given: drew 4 images"),
        (("--set", "data.group_by=(frame)"), "error: data.group_by '(frame)' is no column"),
    ],
)
def test_a_plan_says_and_refuses_what_a_run_does_of_its_data(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    settings: tuple[str, ...],
    said: str,
) -> None:
    save(
        tmp_path,
        *(f"animals/{kind}/{n}.png" for kind in ("cat", "dog") for n in range(7)),
        *(f"vehicles/{kind}/{n}.png" for kind in ("car", "bus") for n in range(7)),
    )
    monkeypatch.setenv("NO_COLOR", "1")
    code = _type(monkeypatch, "run", "--dry-run", "--data", str(tmp_path), *settings)
    assert (code == 0) != said.startswith("error")
    printed = capsys.readouterr()
    assert said in (printed.out + printed.err).replace("\n", " ")


@pytest.mark.integration
def test_the_filter_drops_about_what_was_planned(small_config: RunConfig, tmp_path: Path) -> None:
    plan = make_plan(small_config)
    rounds = run(small_config, tmp_path / "run").rounds
    assert plan.counts.filtered_rounds == sum(bool(r.rejected) for r in rounds) == 1
    # of each class the share is rounded down, so a few more are kept
    assert plan.counts.kept_per_round <= rounds[-1].kept <= plan.counts.kept_per_round + 3


def test_presets_are_listed_and_printed_with_their_comments(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert _type(monkeypatch, "presets") == 0
    listed = capsys.readouterr().out
    assert all(p.name in listed and p.about in listed for p in list_presets())
    assert all(way.name in listed for way in STRATEGIES.values())
    assert _type(monkeypatch, "presets", "paper-flowers") == 0
    printed = capsys.readouterr().out
    assert "# Best of Table 2 [S]: 89.9 at 0.50" in printed
    (tmp_path / "mine.toml").write_text(printed)
    assert RunConfig.from_toml(tmp_path / "mine.toml").generation.strength == 0.5
    assert _type(monkeypatch, "presets", "paper-flower") == 2
    assert "did you mean paper-flowers" in capsys.readouterr().err


def test_a_plan_is_printed_as_tables(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _type(monkeypatch, "plan", "--preset", "paper-cub", "--gpu", "RTX 4090") == 0
    printed = capsys.readouterr().out
    for part in ("meta-llama/Llama-2-7b-chat-hf", "hub, gated", "13.5 GB", "107,900 images",
                 "batches of 16, float32",
                 "An estimate, assuming:", "20% of RTX 4090's 165 dense"):  # fmt: skip
        assert part in printed, part


def test_a_plan_is_printed_as_json(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], photo_folder: Path
) -> None:
    code = _type(
        monkeypatch, "plan", "--preset", "quick", "--data", str(photo_folder), "--json",
        "--set", "agent.rounds=3", "--gpu", "L4",
    )  # fmt: skip
    assert code == 0
    plan = json.loads(capsys.readouterr().out)
    assert plan["counts"]["rounds"] == 3
    assert (plan["real"]["train"], plan["real"]["test"]) == (24, 12)
    assert plan["device"]["name"] == "L4"


def test_a_plan_without_data_names_the_options_to_give(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _type(monkeypatch, "plan", "--preset", "quick") == 2
    error = capsys.readouterr().err
    assert "--data DIR" in error
    assert "--images N" in error
    assert "Traceback" not in error


def test_a_plan_says_what_a_run_says_beforehand_and_counts_the_guards_training(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], photo_folder: Path
) -> None:
    settings = ("--set", "generation.generator=tiny-sd", "--set", "training.epochs=30")
    assert _type(monkeypatch, "plan", "--data", str(photo_folder), *settings) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "! 2 of your 3 classes are among the 10 that tiny-sd can draw" in printed
    assert "! agent.guard is on, because the generator cannot draw some" in printed
    assert "includes the baseline without the agent" in printed
    assert "! Only 30 optimiser steps" in printed
