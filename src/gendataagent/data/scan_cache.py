"""Cache of the scan: which images decoded before, so that a large set is decoded only once.

Two files a data set in the cache folder: id -> state of the file and hash of the image, and
sketches by hash. Only readable images are cached; a file whose size or times changed is decoded
again. Deleting the cache costs only time.
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
from gendataagent.core.cache import cache_folder
from gendataagent.core.errors import StorageError
from gendataagent.data.duplicates.sketches import SKETCH, Sketches
from gendataagent.data.sets import ImageStore

_FORMAT = 5  # raise it when `scan` refuses images that it accepted before
_SKETCH_FORMAT = 2  # raise it when sketches are computed differently
_RECORD = np.dtype([("digest", "V16"), ("sketch", SKETCH)])


_Entry = tuple[str, str, int, bool]


@runtime_checkable
class TrackedStore(Protocol):
    """A store on disk that can tell whether an image changed without reading it."""

    @property
    def location(self) -> str:
        """What identifies this store: the absolute path of its folder."""
        ...

    def state(self, row: int) -> str:
        """Return size and times of the file, or a hash of it; raise OSError if it is missing."""
        ...


class ScanCache:
    """Readable images of one store: id -> (state of the file, hash of its bytes, real depth,
    whether it says that it is synthetic).

    `_known` is what was on disk when the cache was opened, `_new` what was added since.
    """

    def __init__(self, store: ImageStore, max_pixels: float) -> None:
        self._store = store if isinstance(store, TrackedStore) else None
        self._new: dict[str, _Entry] = {}
        self._known: Mapping[str, _Entry] = {}
        self._known_sketches = np.empty(0, dtype=_RECORD)
        self._new_sketches: dict[bytes, Sketches] = {}
        if self._store is not None:
            try:
                self._file = _file_of(self._store.location, max_pixels)
                self._sketch_file = _sketch_file_of(self._store.location)
            except StorageError:  # nowhere to keep a cache
                self._store = None
        if self._store is not None:
            self._known = _read(self._file)
            self._known_sketches = _read_sketches(self._sketch_file)
        self._row_of = {
            digest.tobytes(): row for row, digest in enumerate(self._known_sketches["digest"])
        }

    def state(self, row: int) -> str:
        """Return the state of an image's file; "" if the store does not track it."""
        return self._store.state(row) if self._store is not None else ""

    def get(self, source_id: str, state: str) -> tuple[bytes, Sketches, int, bool] | None:
        """Return what `add` was given for an image in this state, else None."""
        found = self._known.get(source_id)
        if not found or not state or found[0] != state:
            return None
        digest = bytes.fromhex(found[1])
        row = self._row_of.get(digest)
        if row is None:
            return None
        return digest, self._known_sketches["sketch"][row], found[2], found[3]

    def add(
        self,
        source_id: str,
        state: str,
        digest: bytes,
        sketch: Sketches,
        bits: int,
        synthetic: bool,
    ) -> None:
        """Add an image that decoded."""
        if state:
            self._new[source_id] = (state, digest.hex(), bits, synthetic)
            self._new_sketches[digest] = sketch

    def save(self) -> None:
        """Write what is new; a cache folder that cannot be written does not stop the run."""
        if self._store is None:
            return
        try:
            fresh = [item for item in self._new_sketches.items() if item[0] not in self._row_of]
            if fresh:
                rows = np.array(fresh, dtype=_RECORD)
                content = np.concatenate([self._known_sketches, rows]).tobytes()
                files.write_cached(self._sketch_file, content)
            if any(self._known.get(i) != v for i, v in self._new.items()):
                entries = json.dumps({**self._known, **self._new})
                files.write_cached(self._file, entries.encode())
        except StorageError:
            pass  # decoded again at the next run


def _file_of(location: str, max_pixels: float) -> Path:
    what = json.dumps([_FORMAT, location, max_pixels])
    name = hashlib.blake2b(what.encode(), digest_size=16).hexdigest()
    return cache_folder() / "readable" / f"{name}.json"


def _sketch_file_of(location: str) -> Path:
    what = json.dumps([_SKETCH_FORMAT, location])
    name = hashlib.blake2b(what.encode(), digest_size=16).hexdigest()
    return cache_folder() / "sketches" / f"{name}.bin"


def _read_sketches(path: Path) -> npt.NDArray[np.void]:
    """Return the records of a sketch file; none if it is missing or damaged."""
    content = files.read_cached(path)
    if content is None or len(content) % _RECORD.itemsize:
        return np.empty(0, dtype=_RECORD)
    return np.frombuffer(content, dtype=_RECORD)


def _read(path: Path) -> Mapping[str, _Entry]:
    """Return the entries of a cache file; none if it is missing or damaged."""
    try:
        content = json.loads(files.read_cached(path) or b"{}")
        entries = {id_: (str(e[0]), str(e[1]), int(e[2]), bool(e[3])) for id_, e in content.items()}
        valid = all(len(bytes.fromhex(entry[1])) == 16 for entry in entries.values())
        return entries if valid else {}
    except (OSError, ValueError, TypeError, AttributeError, LookupError, RecursionError):
        return {}
