"""Kill a process, or fill its disk, just before its n-th durable write below a folder.

A durable write is a rename (every atomic write ends in one), or the opening of a file to append to
it or to write it in place. They are seen by an audit hook of Python, so that nothing in the package
is changed or replaced: renames, appends and copies of every thread count, and those of worker
processes too, which install the hook through `tests/injected/sitecustomize.py`.

    FaultInjector(root=out, counter=tmp / "count").install()          # only count
    FaultInjector(root=out, counter=tmp / "count", at=17, kind="kill").install()
"""

from __future__ import annotations

import errno
import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

KILL, FULL_DISK = "kill", "full-disk"
KILLED = 137  # what shells report for kill -9
VARIABLE = "GENDATAAGENT_TEST_FAULT"
INJECTED = Path(__file__).parent / "injected"
_LINE = 256  # bytes of the counter a write takes, so that one append counts it and names it
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_APPEND


class FaultInjector:
    """Counts durable writes below `root`, and fails at number `at` (from 1).

    Args:
        counter: a file outside `root`, in which every process writes the path of each write;
            `counted` reads it.
        at: 0 = never fail.
        kind: KILL ends the process at once, without any cleaning up; FULL_DISK refuses this and
            every later write of the process with ENOSPC.
    """

    def __init__(self, *, root: Path, counter: Path, at: int = 0, kind: str = KILL) -> None:
        self.root, self.counter = os.path.abspath(root), os.path.abspath(counter)
        self.at, self.kind = at, kind
        self._full = False

    def install(self) -> None:
        """Start to count, here and in processes started from here; this cannot be undone."""
        os.environ[VARIABLE] = json.dumps(
            {"root": self.root, "counter": self.counter, "at": self.at, "kind": self.kind}
        )
        paths = [str(INJECTED), *filter(None, [os.environ.get("PYTHONPATH")])]
        os.environ["PYTHONPATH"] = os.pathsep.join(paths)
        sys.addaudithook(self._on_event)

    def _on_event(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event == "os.rename":
            self._write(arguments[1], durable=True)
        elif event == "open" and isinstance(arguments[0], str | bytes | os.PathLike):
            path, mode, flags = arguments
            if mode is not None:
                writes = any(letter in mode for letter in "wxa+")
            else:
                writes = bool(flags & _WRITING)
            if writes:
                self._write(path, durable=not _is_temporary(path))

    def _write(self, path: Any, *, durable: bool) -> None:
        place = os.path.abspath(os.fsdecode(path))
        if not place.startswith(self.root + os.sep) or place.endswith(os.sep + ".lock"):
            return
        if durable and self._count(place) == self.at:
            if self.kind == KILL:
                os._exit(KILLED)
            self._full = True
        if self._full:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), place)

    def _count(self, place: str) -> int:
        name = os.fsencode(os.path.relpath(place, self.root)).replace(b"\n", b"?")
        handle = os.open(self.counter, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        try:
            os.write(handle, name[: _LINE - 1].ljust(_LINE - 1) + b"\n")
            return os.fstat(handle).st_size // _LINE
        finally:
            os.close(handle)


def counted(counter: Path) -> list[str]:
    """Return the path below `root` of each durable write so far, in order."""
    if not counter.exists():
        return []
    return [os.fsdecode(line.rstrip()) for line in counter.read_bytes().splitlines()]


def install_from(environment: Mapping[str, str]) -> None:
    """Install the injector that another process describes, if any."""
    if VARIABLE in environment:
        facts = json.loads(environment[VARIABLE])
        injector = FaultInjector(
            root=Path(facts["root"]),
            counter=Path(facts["counter"]),
            at=facts["at"],
            kind=facts["kind"],
        )
        sys.addaudithook(injector._on_event)


def _is_temporary(path: Any) -> bool:
    """Return whether a file is of an atomic write that is not finished."""
    parts = Path(os.fsdecode(path)).parts
    return any(part.startswith(".") and part.endswith(".tmp") for part in parts)
