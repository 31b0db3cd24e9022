"""`gendataagent experiment` on one that is finished, and with an arm that breaks."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from gendataagent.cli import app
from gendataagent.cli.experiment import _seeds_of
from gendataagent.core.errors import ConfigError, GenerationError
from gendataagent.experiments import Arm, Bench

pytestmark = pytest.mark.integration


def invoke(*options: str) -> str:
    command = ["experiment", *options, "--jobs", "1"]
    return CliRunner().invoke(app, command, catch_exceptions=False).output


def test_a_finished_experiment_is_shown_and_says_where(
    bench: Bench, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gendataagent.experiments.find_bench", {"small": bench}.__getitem__)
    printed = invoke("small", "--out", str(out))
    assert "at-random" in printed
    assert str(out / "results.html") in printed
    assert "seconds alone" in (out / "results.md").read_text("utf-8")
    assert len(list((out / "plots").glob("*.svg"))) == 5

    for path in [*(out / "plots").iterdir(), out / "results.html", out / "results.md"]:
        path.unlink()
    diverges = {"training": {"learning_rate": 1e9, "warmup_epochs": 0}}
    broken = Arm(name="broken", strategy="only-real", settings=diverges)
    more = replace(bench, arms=(*bench.arms, broken))
    monkeypatch.setattr("gendataagent.experiments.find_bench", {"small": more}.__getitem__)
    with pytest.raises(GenerationError, match="1 of 4 runs failed"):
        invoke("small", "--out", str(out))
    assert "| at-random |" in (out / "results.md").read_text("utf-8")


@pytest.mark.parametrize(
    ("text", "seeds"),
    [("2", (0, 1)), ("10-12", (10, 11, 12)), ("0,3, 7", (0, 3, 7)), ("4-5,4", (4, 5)), ("0", (0,))],
)
def test_seeds_are_how_many_or_which(text: str, seeds: tuple[int, ...]) -> None:
    assert _seeds_of(text) == seeds


@pytest.mark.parametrize("text", ["", "-3", "5-3", "1,,2", "two", "1.5"])
def test_seeds_that_name_none_are_refused_with_what_is_allowed(text: str) -> None:
    with pytest.raises(ConfigError, match="10-19"):
        _seeds_of(text)
