"""`gendataagent run` from outside: its folder, and what it says when it stops."""

from __future__ import annotations

import contextlib
import re
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from gendataagent.cli import app
from gendataagent.cli.run import new_run_folder
from gendataagent.config import RunConfig
from gendataagent.core.errors import ConfigError, DataError, RunFolderError, StorageError
from gendataagent.core.progress import SilentProgress, Stage
from gendataagent.runs.run import run
from tests.small_world import photo_folder

__all__ = ["photo_folder"]


def test_runs_started_at_the_same_moment_get_folders_of_their_own(tmp_path: Path) -> None:
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "002").write_text("a file")
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda _: new_run_folder(tmp_path / "runs"), range(40)))
    assert len(set(made)) == 40
    assert {path.name for path in made} == {f"{n:03d}" for n in range(1, 42)} - {"002"}


def test_a_place_that_cannot_hold_runs_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("a file")
    with pytest.raises(StorageError, match=r"runs/001: Not a directory; name a folder .* --out"):
        new_run_folder(tmp_path / "runs")


class _Remover(SilentProgress):
    """Removes the run folder when the first step of training is done."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def advance(self, amount: float = 1) -> None:
        shutil.rmtree(self._folder, ignore_errors=True)

    @contextlib.contextmanager
    def stage(
        self, name: str, total: int | None = None, unit: str = "", done: int = 0
    ) -> Iterator[Stage]:
        """Yield a stage; that of training removes the folder."""
        with super().stage(name, total, unit, done) as silent:
            yield self if name == "train" else silent


@pytest.mark.integration
def test_a_run_whose_folder_is_removed_does_not_end_well(
    small_config: RunConfig, tmp_path: Path
) -> None:
    config = replace(small_config, agent=replace(small_config.agent, enabled=False, guard=False))
    with pytest.raises(RunFolderError, match="was removed or replaced while it was written to"):
        run(config, tmp_path / "run", progress=_Remover(tmp_path / "run"))


@pytest.mark.integration
def test_a_dry_run_plans_and_writes_nothing(
    tmp_path: Path, photo_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    def said(*options: str) -> str:
        command = ["run", "--data", str(photo_folder), "--dry-run", *options]
        return CliRunner().invoke(app, command, catch_exceptions=False).output

    text = said("--epochs", "5")
    assert "agent.rounds is 5 instead of 20" in text
    assert "nothing was written or started" in text
    assert "agent.rounds" not in said("--epochs", "5", "--rounds", "2")
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(DataError):
        said("--data", str(tmp_path / "nowhere"))
    with pytest.raises(ConfigError, match="device 'cuda:99' cannot be used here"):
        said("--set", "device=cuda:99")
    with pytest.raises(ConfigError, match="--dry-run writes nothing; leave out --resume and --out"):
        said("--out", "x")


def test_too_many_rounds_are_an_error_where_they_were_named(tmp_path: Path) -> None:
    command = ["run", "--data", str(tmp_path), "--epochs", "5", "--rounds", "9", "--dry-run"]
    with pytest.raises(ConfigError, match=r"agent.rounds \(9\) must be at most"):
        CliRunner().invoke(app, command, catch_exceptions=False)


def test_plan_takes_the_options_of_run() -> None:
    def options(command: str) -> set[str]:
        return set(re.findall(r"--[a-z-]+", CliRunner().invoke(app, [command, "--help"]).output))

    only_run = {"--out", "--resume", "--dry-run", "--trust-remote-code"}
    assert options("run") - options("plan") == only_run
