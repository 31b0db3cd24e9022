"""Lock files between processes; the system releases them even if the holder is killed."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Callable, Iterator
from pathlib import Path

from gendataagent.core.errors import RunFolderError, StorageError
from gendataagent.core.files import LOCK_FILE, remove_leftovers

WAIT_FOREVER = -1.0


@contextlib.contextmanager
def hold_folder(folder: Path) -> Iterator[Callable[[], None]]:
    """Hold `folder` for writing by the lock file `.lock` in it; remove what a killed writer left.

    Yields:
        A function that raises `RunFolderError` if the folder was removed or replaced meanwhile.

    Raises:
        RunFolderError: another process or thread is writing to it, or it was removed or replaced
            while the block ran.
        StorageError: the folder cannot be written.
    """
    from filelock import Timeout

    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(hold_file(folder / LOCK_FILE, timeout_s=0.0))
        except Timeout as error:
            raise RunFolderError(
                f"another run or adaptation is writing to {folder}; wait until it ends or stop it, "
                "then try again"
            ) from error
        remove_leftovers(folder)
        held = _identity(folder)

        def check() -> None:
            if _identity(folder) != held:
                raise RunFolderError(
                    f"{folder} was removed or replaced while it was written to, and what was in it "
                    "is lost; remove what is there now and start again"
                )

        yield check
        check()


def _identity(folder: Path) -> tuple[int, int] | None:
    try:
        status = os.stat(folder / LOCK_FILE)
    except OSError:
        return None
    return status.st_dev, status.st_ino


@contextlib.contextmanager
def hold_file(path: Path, *, timeout_s: float = WAIT_FOREVER) -> Iterator[None]:
    """Hold the lock file `path`, waiting for it at most `timeout_s` seconds.

    Raises:
        filelock.Timeout: another process or thread still holds it.
        StorageError: the file cannot be written.
    """
    from filelock import FileLock, Timeout  # slow to import, so only where a lock is taken

    lock = FileLock(path, timeout=timeout_s)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.is_symlink():  # taking the lock would empty the file that it leads to
            raise OSError(errno.ELOOP, "it is a link; remove it", str(path))
        lock.acquire()
    except Timeout:  # an OSError too
        raise
    except OSError as error:
        raise StorageError(
            f"cannot write the lock file {path}: {error.strerror or error}. Fix the permissions or "
            "name another folder"
        ) from error
    try:
        yield
    finally:
        lock.release()
