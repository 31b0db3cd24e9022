"""The files below a folder: regular files only, every real folder once, no thumbnails."""

from __future__ import annotations

import os
import stat
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from gendataagent.core.errors import DataError
from gendataagent.core.text import counted
from gendataagent.data.decoding.images import SUFFIXES
from gendataagent.data.index import Quarantined, first_few, normalise_name

TABLE_SUFFIX = ".parquet"

# What photo managers, network drives and archivers leave beside photographs, in lower case: smaller
# copies of the images, or deleted ones.
SYSTEM_FOLDERS = frozenset({
    "@eadir", "@__thumb", "@tmp", "@recently-snapshot", "@recycle", "#recycle", "#snapshot",
    "#sharebin", "$recycle.bin", "recycler", "system volume information", "lost+found",
    "__macosx", "__pycache__", "network trash folder", "temporary items", "resource.frk",
    "zbthumbnail.info",
})  # fmt: skip
# Possible names of a class, so they are skipped only beside images.
THUMBNAIL_FOLDERS = frozenset({
    "thumb", "thumbs", "thumbnail", "thumbnails", "_thumb", "_thumbs", "_thumbnail", "_thumbnails",
    "__thumbs", "tn", "_tn", "previews", "_previews", "cache", "_cache",
})  # fmt: skip
RUN_FILES = frozenset({"config.toml", "manifest.json", "data"})
_PSEUDO_FILE_SYSTEMS = ("/proc", "/sys", "/dev")

_Identity = tuple[int, int]


@dataclass(slots=True)
class Found:
    """The files below a folder; paths are relative, with the file system's spelling."""

    images: list[str] = field(default_factory=list)
    tables: list[str] = field(default_factory=list)
    folders: list[str] = field(default_factory=list)
    quarantined: list[Quarantined] = field(default_factory=list)
    hidden: int = 0
    system: list[str] = field(default_factory=list)
    runs: list[str] = field(default_factory=list)
    repeated: list[str] = field(default_factory=list)
    outside: list[str] = field(default_factory=list)
    others: list[str] = field(default_factory=list)
    unreadable: list[str] = field(default_factory=list)

    def notes(self) -> list[str]:
        """Return one sentence for each kind of file that was ignored."""
        notes = []
        if self.hidden:
            hidden = counted(self.hidden, "hidden file or folder", "hidden files or folders")
            notes.append(f"Ignored {hidden}.")
        if self.system:
            folders = counted(len(self.system), "folder", "folders")
            notes.append(
                f"Skipped {folders} of thumbnails or system files: "
                f"{first_few(sorted(self.system))}."
            )
        if self.runs:
            notes.append(
                f"Skipped {counted(len(self.runs), 'run folder', 'run folders')} of this program, "
                f"whose images are no data: {first_few(sorted(self.runs))}."
            )
        if self.others:
            suffixes = (normalise_name(Path(name).suffix.lower()) for name in self.others)
            counts = Counter(suffix or "no suffix" for suffix in suffixes)
            kinds = ", ".join(f"{kind} {n}" for kind, n in sorted(counts.items()))
            files = counted(
                len(self.others), "file that is not an image", "files that are not images"
            )
            notes.append(f"Ignored {files} ({kinds}).")
        if self.unreadable:
            notes.append(f"Ignored tables beside the images: {'; '.join(self.unreadable)}.")
        notes += outside_notes(self.outside)
        if self.repeated:
            notes.append(
                "Ignored symbolic links to a folder that is read already, holds this one, or is "
                f"not on a disk: {first_few(sorted(self.repeated))}."
            )
        return notes


def outside_notes(links: Sequence[str]) -> list[str]:
    """Return a note on images that are read through links out of the data; [] without any."""
    if not links:
        return []
    return [
        "Followed symbolic links out of the data folder, whose images may be copied into the run: "
        f"{first_few(sorted(links))}."
    ]


def links_out(base: str | os.PathLike[str], paths: Iterable[str]) -> list[str]:
    """Return which paths below a folder lead out of it by a link, of a folder or the file."""
    root = os.path.realpath(base)
    inside: dict[str, bool] = {}

    def leads_out(path: str) -> bool:
        return not Path(os.path.realpath(path)).is_relative_to(root)

    found = []
    for path in paths:
        file = os.path.join(base, path)
        folder = os.path.dirname(file)
        if folder not in inside:
            inside[folder] = not leads_out(folder)
        if not inside[folder] or (os.path.islink(file) and leads_out(file)):
            found.append(path)
    return found


def posix_path(path: str) -> str:
    """Return a relative path with forward slashes, normalised."""
    return normalise_name(path.replace(os.sep, "/"))


def find_files(root: Path) -> Found:
    """Return the files below `root`; links to folders are followed.

    Each real folder is read once, by its own path before any link to it. Links to a folder that
    holds `root`, and into /proc and the like, are ignored: they would lead through the whole disk.
    """
    found = Found()
    seen = _folders_above(root)
    devices = set(_devices(_PSEUDO_FILE_SYSTEMS)) - set(_devices(["/"]))
    if devices & set(_devices([root])):
        raise DataError(
            f"{root} is not on a disk but in a file system of devices and processes; "
            "give a folder of images"
        )
    folders, links = [""], list[str]()
    while folders or links:
        if not folders:
            links.sort(key=lambda path: (path.count(os.sep), path), reverse=True)
        is_link = not folders
        folder = (links if is_link else folders).pop()
        try:
            status = os.stat(root / folder)
            identity = (status.st_dev, status.st_ino)
            if identity in seen or status.st_dev in devices:
                found.repeated.append(posix_path(folder) or ".")
                continue
            seen.add(identity)
            if folder:
                found.folders.append(folder)
            below = _read(root, folder, found)
        except OSError as error:
            reason = f"folder cannot be read: {error.strerror}"
            found.quarantined.append(Quarantined(posix_path(folder) or ".", reason))
            continue
        for path, linked in below:
            (links if linked else folders).append(path)
    return found


def _folders_above(root: Path) -> set[_Identity]:
    """Return the identities of the folders that hold `root`, however it was reached."""
    above: set[_Identity] = set()
    # "photos/../photos" passes through itself, so only real parents hold it.
    named = () if ".." in root.parts else root.absolute().parents
    for path in (*named, *Path(os.path.realpath(root)).parents):
        try:
            status = os.stat(path)
        except OSError:
            continue
        above.add((status.st_dev, status.st_ino))
    return above


def _devices(paths: Iterable[str | Path]) -> list[int]:
    return [os.stat(path).st_dev for path in paths if os.path.exists(path)]


def _read(root: Path, folder: str, found: Found) -> list[tuple[str, bool]]:
    """Add the files of one folder; return its sub-folders, and whether each is a link."""
    with os.scandir(root / folder) as scanned:
        entries = list(scanned)
    if folder and {entry.name for entry in entries} >= RUN_FILES:
        found.runs.append(posix_path(folder))
        found.folders.remove(folder)
        return []
    images_here = any(os.path.splitext(e.name)[1].lower() in SUFFIXES for e in entries)
    below = []
    for entry in entries:
        path = os.path.join(folder, entry.name)
        if entry.name.startswith("."):
            found.hidden += 1
        elif not _is_folder(entry):
            _add_file(root, path, entry, found)
        elif _is_of_system(entry.name.lower(), beside_images=bool(folder) and images_here):
            found.system.append(posix_path(path))
        else:
            below.append((path, entry.is_symlink()))
            _note_link(root, path, entry, found)
    return below


def _note_link(root: Path, path: str, entry: os.DirEntry[str], found: Found) -> None:
    if entry.is_symlink() and not Path(os.path.realpath(root / path)).is_relative_to(
        os.path.realpath(root)
    ):
        found.outside.append(posix_path(path))


def _is_of_system(name: str, *, beside_images: bool) -> bool:
    return name in SYSTEM_FOLDERS or (beside_images and name in THUMBNAIL_FOLDERS)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a symbolic link to itself
        return False


def _add_file(root: Path, path: str, entry: os.DirEntry[str], found: Found) -> None:
    suffix = os.path.splitext(entry.name)[1].lower()
    if suffix != TABLE_SUFFIX and suffix not in SUFFIXES:
        found.others.append(path)
    elif reason := _why_not_a_file(entry):
        found.quarantined.append(Quarantined(posix_path(path), reason))
    else:
        (found.tables if suffix == TABLE_SUFFIX else found.images).append(path)
        _note_link(root, path, entry, found)


def _why_not_a_file(entry: os.DirEntry[str]) -> str | None:
    """Return why an entry is not a regular file, else None; opening a pipe would block forever."""
    try:
        regular = stat.S_ISREG(entry.stat().st_mode)
    except OSError as error:
        what = "broken symbolic link" if entry.is_symlink() else "cannot be read"
        return f"{what}: {error.strerror}"
    return None if regular else "not a regular file"
