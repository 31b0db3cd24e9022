"""`compare`: rows of runs and experiments, written in the requested format."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from gendataagent.cli import app
from gendataagent.config.strategies import apply
from gendataagent.core.errors import ConfigError, RunFolderError
from gendataagent.core.progress import SilentProgress
from gendataagent.experiments.compare import rows_to_compare
from gendataagent.experiments.experiment import run_and_collect
from gendataagent.experiments.measures import write_rows
from gendataagent.report import write_report
from gendataagent.runs.run import run
from tests.small_world import photo_folder, settings_for

from .made_up import rows_of

pytestmark = pytest.mark.integration

__all__ = ["photo_folder"]


@pytest.fixture
def experiment(tmp_path: Path) -> Path:
    folder = tmp_path / "benchmark"
    write_rows(rows_of({"base": [0.4, 0.5], "[red]agent": [0.5, 0.65]}), folder / "results.parquet")
    return folder


def test_arms_of_an_experiment_keep_their_names(experiment: Path) -> None:
    rows = rows_to_compare([experiment, experiment])
    assert [(row["arm"], row["seed"]) for row in rows] == [
        ("base", 0), ("base", 1), ("[red]agent", 0), ("[red]agent", 1)
    ]  # fmt: skip


def test_an_experiment_with_a_link_that_leads_out_is_not_used(
    experiment: Path, tmp_path: Path
) -> None:
    (experiment / "runs").symlink_to(tmp_path)
    with pytest.raises(RunFolderError, match="runs is a link that leads out"):
        rows_to_compare([experiment])
    with pytest.raises(RunFolderError, match="runs is a link that leads out"):
        run_and_collect([], experiment, experiment / "x", jobs=1, progress=SilentProgress())


def test_arms_of_two_experiments_are_not_merged(experiment: Path, tmp_path: Path) -> None:
    other = tmp_path / "second"
    write_rows(rows_of({"base": [0.1], "new": [0.2]}), other / "results.parquet")
    arms = dict.fromkeys(row["arm"] for row in rows_to_compare([other, experiment]))
    assert list(arms) == ["base (second)", "new", "base (benchmark)", "[red]agent"]
    alike = tmp_path / "elsewhere" / "benchmark"
    write_rows(rows_of({"base": [0.3]}), alike / "results.parquet")
    named = {row["arm"] for row in rows_to_compare([experiment, alike])}
    assert {f"base ({experiment})", f"base ({alike})"} < named


def test_runs_and_experiments_together(
    experiment: Path, tmp_path: Path, photo_folder: Path
) -> None:
    run_folder = tmp_path / "mine"
    run(apply(settings_for(photo_folder, Path("tiny-sd")), "only-real"), run_folder)
    rows = rows_to_compare([run_folder, experiment])
    assert [row["arm"] for row in rows] == ["mine", "base", "base", "[red]agent", "[red]agent"]
    assert len(rows_to_compare([run_folder, run_folder])) == 1
    again = tmp_path / "again"
    again.symlink_to(run_folder)
    with pytest.raises(ConfigError, match="mine and again have the same settings and seed 7"):
        rows_to_compare([run_folder, again])
    with pytest.raises(RunFolderError):
        rows_to_compare([experiment, tmp_path / "nowhere"])


def test_the_suffix_of_out_gives_the_format(experiment: Path, tmp_path: Path) -> None:
    def compared(out: Path) -> str:
        command = ["compare", str(experiment), "--out", str(out)]
        return CliRunner().invoke(app, command, catch_exceptions=False).output

    printed = compared(tmp_path / "page.html")
    assert "[red]agent" in printed
    assert "<!doctype html>" in (tmp_path / "page.html").read_text("utf-8")
    compared(tmp_path / "text.md")
    assert "](text-plots/difference-top1.svg)" in (tmp_path / "text.md").read_text("utf-8")
    assert (tmp_path / "text-plots" / "difference-top1.svg").is_file()
    assert str(tmp_path / "folder" / "results.html") in compared(tmp_path / "folder").replace(
        "\n", ""
    )
    assert {p.name for p in (tmp_path / "folder").iterdir()} == {
        "results.html", "results.md", "plots"
    }  # fmt: skip
    with pytest.raises(ConfigError, match=r"must end in \.html or \.md, or be a folder"):
        compared(tmp_path / "page.pdf")


def test_the_page_shows_classes_settings_and_links_to_reports(
    tmp_path: Path, photo_folder: Path
) -> None:
    config = apply(settings_for(photo_folder, Path("tiny-sd")), "only-real")
    longer = replace(config, training=replace(config.training, learning_rate=0.01))
    run(config, tmp_path / "runs" / "first")
    run(longer, tmp_path / "runs" / "second")
    write_report(tmp_path / "runs" / "second")
    folders = [str(tmp_path / "runs" / name) for name in ("first", "second")]
    page = tmp_path / "pages" / "page.html"
    command = ["compare", *folders, "--out", str(page)]
    assert CliRunner().invoke(app, command, catch_exceptions=False).exit_code == 0
    text = page.read_text("utf-8")
    assert 'href="../runs/second/report.html">seed 7</a>' in text
    assert "first/report.html" not in text
    assert "training.learning_rate" in text
    assert ">0.02<" in text
    assert ">0.01<" in text
    assert "Accuracy of each class" in text
