"""Who may write to a run folder, and with which settings."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from gendataagent.config import GenerationConfig, RunConfig
from gendataagent.config.run_config_file import (
    check_same_settings,
    create_run_folder,
    read_run_config,
    write_run_config,
)
from gendataagent.core.errors import ConfigError, RunFolderError, StorageError
from gendataagent.core.run_folder import RunFolder


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    return create_run_folder(tmp_path / "run", RunConfig(seed=5))


def test_a_new_folder_holds_the_settings_and_opens_again(folder: RunFolder) -> None:
    assert read_run_config(RunFolder.open(folder.path)) == RunConfig(seed=5)
    assert [p.name for p in folder.path.iterdir()] == ["config.toml"]


def test_parent_folders_are_created_and_an_empty_folder_is_used(tmp_path: Path) -> None:
    assert create_run_folder(tmp_path / "a" / "b", RunConfig()).config_file.exists()
    (tmp_path / "empty").mkdir()
    assert create_run_folder(tmp_path / "empty", RunConfig()).config_file.exists()


def test_a_folder_that_is_not_empty_is_left_unchanged(tmp_path: Path, folder: RunFolder) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "holiday.jpg").touch()
    with pytest.raises(RunFolderError, match=r"full exists and is not empty.*--out"):
        create_run_folder(tmp_path / "full", RunConfig())
    assert [p.name for p in (tmp_path / "full").iterdir()] == ["holiday.jpg"]
    with pytest.raises(RunFolderError, match=r"already holds a run.*run --resume"):
        create_run_folder(folder.path, RunConfig())
    assert read_run_config(folder).seed == 5


def test_wrong_settings_built_in_python_are_refused_before_anything_is_written(
    tmp_path: Path,
) -> None:
    wrong = RunConfig(seed=-1, generation=GenerationConfig(strength=2.0))
    with pytest.raises(ConfigError) as caught:
        create_run_folder(tmp_path / "run", wrong)
    assert len(caught.value.problems) == 2
    assert not (tmp_path / "run").exists()


def test_a_place_that_cannot_be_a_folder_is_a_storage_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for place in (tmp_path / "file", tmp_path / "file" / "run"):
        with pytest.raises(StorageError, match=r"cannot create the run folder .*Not a directory"):
            create_run_folder(place, RunConfig())


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_may_not_be_written_is_a_storage_error(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(StorageError, match="Permission denied"):
        create_run_folder(tmp_path / "run", RunConfig())


def test_only_run_folders_open(tmp_path: Path) -> None:
    for place in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(RunFolderError, match=r"is not a run folder .*run --data DIR --out"):
            RunFolder.open(place)


def test_a_second_writer_is_refused_while_the_first_one_writes(folder: RunFolder) -> None:
    with (
        folder.lock(),
        pytest.raises(
            RunFolderError,
            match=r"is writing to .*run; wait until it ends",
        ),
        RunFolder.open(folder.path).lock(),
    ):
        pass
    with folder.lock():
        pass


HOLDER = """
import sys
from gendataagent.core.run_folder import RunFolder

with RunFolder.open(sys.argv[1]).lock():
    print("locked", flush=True)
    input()
"""


def test_the_lock_of_a_killed_process_is_free(folder: RunFolder) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(folder.path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"locked\n"
        with pytest.raises(RunFolderError, match="another run or adaptation"), folder.lock():
            pass
        holder.kill()
        holder.wait()
        with folder.lock():
            pass


def test_only_settings_that_change_no_result_may_change(folder: RunFolder) -> None:
    faster = replace(
        read_run_config(folder), device="cpu", generation=GenerationConfig(chunk_size=2, workers=1)
    )
    check_same_settings(folder, faster)
    write_run_config(folder, faster)
    assert read_run_config(folder) == faster

    other = replace(faster, seed=6, generation=GenerationConfig(strength=0.5, chunk_size=7))
    with pytest.raises(RunFolderError) as caught:
        check_same_settings(folder, other)
    message = str(caught.value)
    assert "seed is 5 there, not 6; generation.strength is 0.75 there, not 0.5." in message
    assert "chunk_size" not in message
    assert "--out" in message


def test_rounds_and_runs_are_done_when_marked(folder: RunFolder) -> None:
    assert not folder.round_is_done(3)
    folder.mark_round_done(3)
    assert folder.round_is_done(3)
    assert not folder.round_is_done(2)
    assert folder.round(3) == folder.path / "rounds" / "003"
    assert folder.pool(12) == folder.path / "pool" / "012"
    assert not folder.is_done
    folder.mark_done()
    assert folder.is_done


def test_a_run_that_never_began_leaves_no_folder(folder: RunFolder) -> None:
    with folder.lock():
        pass
    folder.discard_if_unstarted()
    assert not folder.path.exists()


def test_a_run_that_began_is_never_discarded(folder: RunFolder) -> None:
    folder.manifest_file.write_text("{}", encoding="utf-8")
    folder.discard_if_unstarted()
    assert read_run_config(folder).seed == 5


def test_other_files_in_the_folder_are_not_discarded(folder: RunFolder) -> None:
    (folder.path / "notes.txt").touch()
    folder.discard_if_unstarted()
    assert [p.name for p in folder.path.iterdir()] == ["notes.txt"]
