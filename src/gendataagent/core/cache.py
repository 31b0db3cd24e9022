"""Where this package keeps files that it can make again: captions, decoded tables, scans."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from gendataagent.core.errors import StorageError
from gendataagent.core.files import expand

CACHE_VARIABLE = "GENDATAAGENT_CACHE"
_NAME = "gendataagent"


def cache_folder() -> Path:
    """Return the user's cache folder for this package; it may not exist yet.

    `GENDATAAGENT_CACHE` names it. Otherwise it is `gendataagent` in `XDG_CACHE_HOME`, honoured on
    every system, or in the system's own place: `~/.cache` (Linux), `~/Library/Caches` (macOS),
    `%LOCALAPPDATA%` (Windows).

    Raises:
        StorageError: this user has no home folder.
    """
    if named := os.environ.get(CACHE_VARIABLE):
        return expand(named)
    xdg = os.environ.get("XDG_CACHE_HOME", "")
    if os.path.isabs(xdg):  # its specification says to ignore relative ones
        return Path(xdg) / _NAME
    try:
        return _system_cache() / _NAME
    except RuntimeError as error:
        raise StorageError(
            f"this user has no home folder to keep a cache in; set {CACHE_VARIABLE} to a folder"
        ) from error


def _system_cache() -> Path:
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches"
    return Path.home() / ".cache"
