"""Which images were found good before, so that a large set is decoded once and not at each start.

Kept in the cache folder, two files a data set: verdicts, and thumbnails by the hash of the image.
Only good verdicts are kept, each with size and times of the file; a file that was touched since is
decoded again. Losing the cache costs time alone.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from gendataagent.core import files
from gendataagent.core.errors import StorageError
from gendataagent.data.near_duplicates import THUMBNAIL_SHAPE, Uint8Array
from gendataagent.data.sets import ImageStore
from gendataagent.data.tables import cache_folder

_FORM = 1  # raise it when `screening` refuses what it let pass before
_THUMBNAIL_FORM = 1  # raise it when thumbnails are made in another way
_RECORD = np.dtype([("digest", "V16"), ("thumbnail", np.uint8, THUMBNAIL_SHAPE)])


@runtime_checkable
class LastingStore(Protocol):
    """A store on disk that can tell without reading a image whether it has changed."""

    @property
    def place(self) -> str:
        """What tells this store from others: the absolute path of its folder."""
        ...

    def state(self, row: int) -> str:
        """Return size and times of the file; raise OSError if there is none."""
        ...


class Verdicts:
    """Good verdicts of one store: id -> (state of the file, hash of its bytes), and thumbnails.

    What `_known` names was on disk when it was opened.
    """

    def __init__(self, store: ImageStore, max_pixels: float) -> None:
        self._store = store if isinstance(store, LastingStore) else None
        self._new: dict[str, list[str]] = {}
        self._known: Mapping[str, list[str]] = {}
        self._known_thumbnails = np.empty(0, dtype=_RECORD)
        self._new_thumbnails: dict[bytes, Uint8Array] = {}
        if self._store is not None:
            self._file = _file_of(self._store.place, max_pixels)
            self._known = _read(self._file)
            self._thumbnail_file = _thumbnail_file_of(self._store.place)
            self._known_thumbnails = _read_thumbnails(self._thumbnail_file)
        self._row_of = {
            digest.tobytes(): row for row, digest in enumerate(self._known_thumbnails["digest"])
        }

    def state(self, row: int) -> str:
        """Return the state of a image's file; "" where the store cannot tell."""
        return self._store.state(row) if self._store is not None else ""

    def good(self, source_id: str, state: str) -> tuple[bytes, Uint8Array] | None:
        """Return hash and thumbnail of a image that was good in this very state, else None."""
        found = self._known.get(source_id)
        if not found or not state or found[0] != state:
            return None
        digest = bytes.fromhex(found[1])
        row = self._row_of.get(digest)
        return None if row is None else (digest, self._known_thumbnails["thumbnail"][row])

    def add(self, source_id: str, state: str, digest: bytes, thumbnail: Uint8Array) -> None:
        """Note a good image."""
        if state:
            self._new[source_id] = [state, digest.hex()]
            self._new_thumbnails[digest] = thumbnail

    def save(self) -> None:
        """Write down what is new; a cache folder that cannot be written costs time, not the run."""
        if self._store is None:
            return
        try:
            fresh = [item for item in self._new_thumbnails.items() if item[0] not in self._row_of]
            if fresh:
                rows = np.array(fresh, dtype=_RECORD)
                content = np.concatenate([self._known_thumbnails, rows]).tobytes()
                files.write_bytes(self._thumbnail_file, content)
            if any(self._known.get(i) != v for i, v in self._new.items()):
                verdicts = json.dumps({**self._known, **self._new})
                files.write_bytes(self._file, verdicts.encode())
        except StorageError:
            pass  # decoded again at the next start


def _file_of(place: str, max_pixels: float) -> Path:
    what = json.dumps([_FORM, place, max_pixels])
    name = hashlib.blake2b(what.encode(), digest_size=16).hexdigest()
    return cache_folder() / "readable" / f"{name}.json"


def _thumbnail_file_of(place: str) -> Path:
    what = json.dumps([_THUMBNAIL_FORM, place])
    name = hashlib.blake2b(what.encode(), digest_size=16).hexdigest()
    return cache_folder() / "thumbnails" / f"{name}.bin"


def _read_thumbnails(path: Path) -> npt.NDArray[np.void]:
    """Return what a file of thumbnails holds; nothing if it is not there or not whole."""
    try:
        content = path.read_bytes()
    except OSError:
        return np.empty(0, dtype=_RECORD)
    if len(content) % _RECORD.itemsize:
        return np.empty(0, dtype=_RECORD)
    return np.frombuffer(content, dtype=_RECORD)


def _read(path: Path) -> Mapping[str, list[str]]:
    """Return what a cache file holds; nothing if it is not there or damaged."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        whole = all(
            len(entry) == 2 and isinstance(entry[0], str) and bytes.fromhex(entry[1])
            for entry in content.values()
        )
        return content if whole else {}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}
