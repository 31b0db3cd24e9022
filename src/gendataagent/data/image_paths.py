"""Paths in a table's cells: they lead to images of the data set and nowhere else.

A table comes from other people. A path such as /home/me/.ssh/x.png or ../../private/x.png would
copy an image from elsewhere on this machine into a run that may be shared.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path, PureWindowsPath

from gendataagent.core.errors import DataError


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
        root = Path(image_root).expanduser()
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
        return any(target.startswith(folder.rstrip(os.sep) + os.sep) for folder in folders)

    def check(self, path: str, where: str) -> None:
        """Raise `DataError` if a cell's path leads outside the folder; `where` names the cell."""
        if path and self.leads_outside(path):
            raise DataError(
                f"{where} names the image {path!r}, outside {self.folder}. A table may name images "
                "of its own folder only; if you trust this one, set data.image_root to the folder "
                "that holds the images"
            )
