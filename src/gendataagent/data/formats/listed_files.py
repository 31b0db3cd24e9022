"""Which image file a cell of a table means: by path, by name, or by name without its suffix."""

from __future__ import annotations

import os
import posixpath
from collections import Counter, defaultdict
from collections.abc import Collection, Sequence
from pathlib import Path, PureWindowsPath
from typing import Any

from gendataagent.core.errors import DataError
from gendataagent.data.decoding.images import SUFFIXES
from gendataagent.data.formats.image_paths import ImagePaths
from gendataagent.data.formats.text_tables import ListFile
from gendataagent.data.formats.walk import posix_path
from gendataagent.data.index import first_few, normalise_name, split_of


class ListedFiles:
    """The image files below a folder, to be found by what a table says of them."""

    def __init__(self, root: Path, images: Sequence[str]) -> None:
        self._paths = ImagePaths(str(root.absolute()))
        self._files = {posix_path(image): image for image in sorted(images)}
        self._named: dict[str, list[str]] = defaultdict(list)
        for path in self._files:
            base = posixpath.basename(path)
            self._named[base].append(path)
            self._named[posixpath.splitext(base)[0]].append(path)

    @property
    def paths(self) -> Collection[str]:
        """Every file, with forward slashes."""
        return self._files.keys()

    def file(self, path: str) -> str:
        """Return a path as the file system spells it."""
        return self._files[path]

    def candidates(self, table: ListFile, cell: Any) -> list[str]:
        """Return the files that a cell may mean; [] for a cell that leads nowhere."""
        wanted = _path_in(cell)
        if os.path.isabs(wanted):
            wanted = posix_path(os.path.relpath(wanted, self._paths.folder))
        beside = posixpath.normpath(posixpath.join(table.folder, wanted))
        if not wanted or beside in self._files:
            return [beside] if wanted else []
        suffixed = posixpath.splitext(wanted)[1].lower() in SUFFIXES
        wanted = posixpath.normpath(wanted)
        return [
            path
            for path in self._named.get(posixpath.basename(wanted), ())
            if f"/{path if suffixed else posixpath.splitext(path)[0]}".endswith(f"/{wanted}")
        ]

    def resolve(self, table: ListFile, column: str, splits: Sequence[str]) -> list[str | None]:
        """Return the file of each row of a table; None where there is none.

        Where several have the name, it is the one in a folder of the row's split; then the one in
        the folder that has most images of the table.

        Raises:
            DataError: a path leads outside the folder, or a name may mean several files.
        """
        cells = table.columns[column]
        found = []
        for row, cell in enumerate(cells):
            paths = self.candidates(table, cell)
            if not paths:
                self._check_outside(table, row, cell)
            for path in paths:
                self._paths.check(self._files[path], table.where(row))
            found.append(_of_split(paths, splits[row]))
        bases = Counter(posixpath.dirname(path) for paths in found for path in paths)
        chosen: list[str | None] = []
        for row, paths in enumerate(found):
            most = max((bases[posixpath.dirname(path)] for path in paths), default=0)
            best = [path for path in paths if bases[posixpath.dirname(path)] == most]
            if len(best) > 1:
                raise DataError(
                    f"{table.where(row)} names the image {cells[row]!r}, which may be "
                    f"{first_few(best)}. Set data.image_root to the folder of its images"
                )
            chosen.append(best[0] if best else None)
        return chosen

    def _check_outside(self, table: ListFile, row: int, cell: Any) -> None:
        if wanted := _path_in(cell):
            beside = posixpath.join(table.folder, wanted)
            drive = PureWindowsPath(wanted).drive
            self._paths.check(wanted if drive else beside, table.where(row))


def _path_in(cell: Any) -> str:
    """Return a cell as a path with forward slashes; "" if it holds none."""
    if isinstance(cell, bool) or not isinstance(cell, str | int):
        return ""
    text = normalise_name(str(cell)).strip()
    return "" if "\0" in text else text.replace("\\", "/")


def _of_split(paths: Sequence[str], split: str) -> list[str]:
    if len(paths) < 2:
        return list(paths)
    own = [path for path in paths if split in map(split_of, posixpath.dirname(path).split("/"))]
    return own or list(paths)
