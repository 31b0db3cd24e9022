"""The folder of an export: complete or not there, and never in the place of anything else.

`export.json` lists the SHA-256 of each file of an export. A folder is replaced only if it has one
and every file in it is listed there and unchanged: what a user added or edited is never lost.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from gendataagent import __version__
from gendataagent.config.paths import is_place
from gendataagent.config.run_config_file import read_run_config
from gendataagent.config.settings import iterate_settings
from gendataagent.core import files
from gendataagent.core.errors import RunFolderError
from gendataagent.core.run_folder import RunFolder
from gendataagent.data.index import first_few

MARK = "export.json"
MADE_BY = f"gendataagent {__version__}"
_OURS = "gendataagent "
_OUT = "name another folder with --out"


def check_place(out: str | Path, run: str | Path) -> Path:
    """Return the absolute path of an export's folder; nothing is written.

    Raises:
        RunFolderError: it holds something else, is a file, or lies inside the run or its images.
    """
    path, folder = (Path(os.path.realpath(place)) for place in (files.expand(out), run))
    _refuse_inside(path, folder)
    _refuse_others(path)
    return path


@contextlib.contextmanager
def export_folder(path: Path, record: Mapping[str, Any]) -> Iterator[Path]:
    """Yield a temporary folder that becomes `path`, with its `export.json`, if all goes well.

    Args:
        path: from `check_place`.
        record: what `export.json` says beside the hashes.

    Raises:
        RunFolderError: something else was put at `path` meanwhile; it is unchanged.
        StorageError: the disk is full, no permission...
    """
    with files.atomic_folder(path) as aside:
        yield aside
        sums = {
            file.relative_to(aside).as_posix(): files.file_sha256(file)
            for file in sorted(aside.rglob("*"))
            if file.is_file()
        }
        files.write_json(aside / MARK, {"made_by": MADE_BY, **record, "sha256": sums})
        _refuse_others(path)


def sums_of(mark: str | bytes) -> dict[str, str] | None:
    """Return file -> SHA-256 of the text of an `export.json`; None if it is no such file."""
    try:
        row = files.parse_json(mark)
    except ValueError:
        return None
    if not isinstance(row, dict) or not str(row.get("made_by", "")).startswith(_OURS):
        return None
    sums = row.get("sha256")
    return sums if isinstance(sums, dict) else None


def _refuse_inside(path: Path, run: Path) -> None:
    """Raise if the folder would be read as a part of the run, or as images of its data."""
    if path == run or (run in path.parents and path.parent != run):
        raise RunFolderError(f"{path} is a part of the run in {run}; {_OUT}")
    if not RunFolder(run).config_file.is_file():
        return
    for row in iterate_settings(read_run_config(RunFolder.open(run))):
        if row.key == "data.path" and is_place(row):
            images = Path(os.path.realpath(row.value))
            if images == path or images in path.parents:
                raise RunFolderError(
                    f"{path} lies inside the images of the run ({images}), so later runs would "
                    f"read it as some of them; {_OUT}"
                )


def _refuse_others(path: Path) -> None:
    if not os.path.lexists(path):
        return
    if not path.is_dir():
        raise RunFolderError(f"{path} is a file; {_OUT}")
    if files.holds_nothing(path):
        return
    mark = path / MARK
    sums = sums_of(files.read_bytes(mark)) if mark.is_file() else None
    if sums is None:
        raise RunFolderError(
            f"{path} exists, is not empty, and is no export of gendataagent, so it is left "
            f"unchanged; {_OUT}"
        )
    others = [
        name
        for file in sorted(path.rglob("*"))
        if not file.is_dir() and (name := file.relative_to(path).as_posix()) != MARK
        if name not in sums or not file.is_file() or files.file_sha256(file) != sums[name]
    ]
    if others:
        raise RunFolderError(
            f"{path} holds an earlier export, and files that are not of it or were changed since: "
            f"{first_few(others)}. Move them away, or {_OUT}"
        )
