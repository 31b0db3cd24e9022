"""`gendataagent run` from outside: its folder, and what it says when it stops."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from gendataagent.cli.run import new_run_folder
from gendataagent.core.errors import StorageError


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
