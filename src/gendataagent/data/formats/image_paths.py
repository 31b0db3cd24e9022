"""Paths in a table's cells: they lead to images of the data set and nowhere else, nor do links.

A table comes from other people. A path such as /home/me/.ssh/x.png or ../../private/x.png would
copy an image from elsewhere on this machine into a run that may be shared.
"""

from __future__ import annotations

import functools
import os
from dataclasses import dataclass
from pathlib import Path, PureWindowsPath

from gendataagent.core.errors import DataError
from gendataagent.core.files import expand


@functools.lru_cache(maxsize=4096)
def _real_folder(folder: str) -> str:
    return os.path.realpath(folder)


def _real(path: str) -> str:
    """Return where a path leads through links; one call of the system for most files."""
    if os.path.islink(path):
        return os.path.realpath(path)
    folder, name = os.path.split(path)
    return os.path.join(_real_folder(folder), name)


@dataclass(frozen=True, slots=True)
class ImagePaths:
    """Where the paths of a table lead: below `folder`, from which relative ones start."""

    folder: str

    @classmethod
    def of(cls, table_folder: Path, image_root: str) -> ImagePaths:
        """Return the paths of a table in a folder, under the setting data.image_root.

        Raises:
            DataError: data.image_root is no folder.
        """
        if not image_root:
            return cls(str(table_folder.absolute()))
        root = expand(image_root)
        if not root.is_dir():
            raise DataError(
                f"data.image_root {image_root} is not a folder; give the folder of the images that "
                "the table names by path"
            )
        return cls(str(root.absolute()))

    def resolve(self, path: str) -> str:
        """Return the absolute path of a cell's path."""
        return os.path.normpath(os.path.join(self.folder, path))

    def leads_outside(self, path: str) -> bool:
        """Return whether a path leads out of the folder, by Linux's, macOS's or Windows' rules."""
        windows = PureWindowsPath(path)
        if windows.drive or ("\\" in path and ".." in windows.parts):
            return os.name != "nt" or not self._is_inside(path)
        return not self._is_inside(path)

    def _is_inside(self, path: str) -> bool:
        folders = {os.path.normpath(self.folder), os.path.realpath(self.folder)}
        target = self.resolve(path)
        targets = (target,) if "\0" in path else (target, _real(target))
        starts = tuple(folder.rstrip(os.sep) + os.sep for folder in folders)
        return all(one.startswith(starts) for one in targets)

    def check(self, path: str, where: str) -> None:
        """Raise `DataError` if a cell's path leads outside the folder; `where` names the cell."""
        if path and self.leads_outside(path):
            raise DataError(
                f"{where} names the image {path!r}, outside {self.folder}. A table may name images "
                "of its own folder only; if you trust this one, set data.image_root (evaluate: "
                "--image-root) to the folder that holds the images"
            )
