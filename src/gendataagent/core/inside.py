"""Nothing in a folder that this package wrote leads out of it.

A run folder may come from someone else. A link in it could have any file of this user read, shown,
exported or replaced, so such a folder is refused before anything in it is used.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from gendataagent.core.errors import RunFolderError

_NEXT = "The folder may come from someone else, so nothing in it is used"


def refuse_ways_out(folder: str | Path) -> None:
    """Raise `RunFolderError` naming a link below `folder` that leads out, or what is no file.

    `folder` itself may be a link. Links to a place inside are left alone; pipes, devices and
    sockets are not: reading one may never end.
    """
    root = os.path.realpath(folder)
    for entry in _below(folder):
        if not _is_link(entry):
            raise RunFolderError(
                f"{entry.path} is a pipe, a device or a socket. {_NEXT}; remove it"
            )
        target = os.path.realpath(entry.path)
        if os.path.commonpath((root, target)) != root:
            raise RunFolderError(
                f"{entry.path} is a link that leads out of {folder}, to {target}. {_NEXT}; put the "
                "file or folder itself there, or remove the link"
            )


def _below(folder: str | Path) -> Iterator[os.DirEntry[str]]:
    """Yield everything below a folder that is neither a regular file nor a folder."""
    waiting = [os.fspath(folder)]
    while waiting:
        try:
            with os.scandir(waiting.pop()) as entries:
                for entry in entries:
                    if _is_link(entry):
                        yield entry
                    elif entry.is_dir(follow_symlinks=False):
                        waiting.append(entry.path)
                    elif not entry.is_file(follow_symlinks=False):
                        yield entry
        except OSError:  # missing, no permission: whatever reads it says so
            continue


def _is_link(entry: os.DirEntry[str]) -> bool:
    is_junction = getattr(entry, "is_junction", None)  # Windows; from Python 3.12 on
    return entry.is_symlink() or (is_junction is not None and is_junction())
