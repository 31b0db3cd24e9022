"""Lock files between processes and threads."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from filelock import Timeout

from gendataagent.core.errors import RunFolderError, StorageError
from gendataagent.core.locks import hold_file, hold_folder


def test_a_waiting_holder_gets_the_file_when_it_is_free(tmp_path: Path) -> None:
    path, order = tmp_path / "below" / "made.lock", []

    def wait() -> None:
        with hold_file(path):
            order.append("second")

    with hold_file(path):
        waiting = threading.Thread(target=wait)
        waiting.start()
        with pytest.raises(Timeout), hold_file(path, timeout_s=0.1):
            pass
        order.append("first")
    waiting.join(timeout=30)
    assert order == ["first", "second"]
    assert path.exists()


def test_a_held_folder_is_refused_without_naming_a_process(tmp_path: Path) -> None:
    with (
        hold_folder(tmp_path),
        pytest.raises(RunFolderError) as caught,
        hold_folder(tmp_path),
    ):
        pass
    assert str(caught.value) == (
        f"another run or adaptation is writing to {tmp_path}; wait until it ends or stop it, then "
        "try again"
    )


def test_an_error_of_the_holder_is_its_own(tmp_path: Path) -> None:
    with pytest.raises(TimeoutError, match="mine"), hold_folder(tmp_path):
        raise TimeoutError("mine")
    with hold_folder(tmp_path):
        pass


def test_a_place_that_cannot_hold_a_lock_file_is_a_storage_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with (
        pytest.raises(StorageError, match=r"cannot write the lock file .*file"),
        hold_folder(tmp_path / "file"),
    ):
        pass


@pytest.mark.parametrize("replaced", [False, True])
def test_a_folder_that_is_removed_while_it_is_held_does_not_end_well(
    tmp_path: Path, replaced: bool
) -> None:
    folder, elsewhere = tmp_path / "run", tmp_path / "moved"

    def write() -> None:
        with hold_folder(folder) as check:
            check()
            folder.rename(elsewhere)
            if replaced:
                folder.mkdir()
                (folder / ".lock").touch()

    with pytest.raises(RunFolderError, match="was removed or replaced"):
        write()
