"""`gendataagent experiment`: a finished experiment, a failing arm, no matplotlib."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from gendataagent.cli import app
from gendataagent.core.errors import GenerationError
from gendataagent.experiments import Arm, Benchmark
from tests.experiments.conftest import benchmark, finished, out
from tests.small_world import photo_folder

__all__ = ["benchmark", "finished", "out", "photo_folder"]

pytestmark = pytest.mark.integration


def invoke(*options: str) -> str:
    command = ["experiment", *options, "--jobs", "1"]
    return CliRunner().invoke(app, command, catch_exceptions=False).output


def test_a_finished_experiment_is_shown_with_the_path_of_its_results(
    benchmark: Benchmark, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gendataagent.experiments.find_benchmark", {"small": benchmark}.__getitem__)
    printed = invoke("small", "--out", str(out))
    assert "at-random" in printed
    assert str(out / "results.html") in printed
    assert len(list((out / "plots").glob("*.svg"))) == 5

    for path in [*(out / "plots").iterdir(), out / "results.html", out / "results.md"]:
        path.unlink()
    diverges = {"training": {"learning_rate": 1e9, "warmup_epochs": 0}}
    broken = Arm(name="broken", strategy="only-real", settings=diverges)
    more = replace(benchmark, arms=(*benchmark.arms, broken))
    monkeypatch.setattr("gendataagent.experiments.find_benchmark", {"small": more}.__getitem__)
    with pytest.raises(GenerationError, match="1 of 4 runs failed"):
        invoke("small", "--out", str(out))
    assert "| at-random |" in (out / "results.md").read_text("utf-8")


def test_without_matplotlib_tables_are_written_and_the_pip_command_is_shown(
    benchmark: Benchmark, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gendataagent.experiments.find_benchmark", {"small": benchmark}.__getitem__)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    command = ["experiment", "small", "--out", str(out), "--jobs", "1"]
    result = CliRunner().invoke(app, command, catch_exceptions=False)
    advice = "No plots: matplotlib is not installed; pip install 'gendataagent[plots]'."
    assert advice in result.stderr.replace("\n", " ")
    assert "at-random" in result.stdout
    text = (out / "results.md").read_text("utf-8")
    assert f"- {advice}" in text
    assert "| at-random |" in text
    assert ".svg" not in text
    page = (out / "results.html").read_text("utf-8")
    assert "<svg" not in page
    assert 'href="#differences"' in page
