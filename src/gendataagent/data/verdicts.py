"""Which pictures were found good before, so that a large set is decoded once and not at each start.

Kept in the cache folder, one file a data set. Only good verdicts are kept, each with size and times
of the file; a file that was touched since is decoded again. Losing the cache costs time alone.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol, runtime_checkable

from gendataagent import storage
from gendataagent.data.sets import PictureStore
from gendataagent.data.tables import cache_folder
from gendataagent.errors import StorageError

_FORM = 1  # raise it when `screening` refuses what it let pass before


@runtime_checkable
class LastingStore(Protocol):
    """A store on disk that can tell without reading a picture whether it has changed."""

    @property
    def place(self) -> str:
        """What tells this store from others: the absolute path of its folder."""
        ...

    def state(self, row: int) -> str:
        """Return size and times of the file; raise OSError if there is none."""
        ...


class Verdicts:
    """Good verdicts of one store: id -> (state of the file, hash of its bytes).

    `known` is what was on disk when it was opened.
    """

    def __init__(self, store: PictureStore, max_pixels: float) -> None:
        self._store = store if isinstance(store, LastingStore) else None
        self._new: dict[str, list[str]] = {}
        self._known: Mapping[str, list[str]] = {}
        if self._store is not None:
            self._file = _file_of(self._store.place, max_pixels)
            self._known = _read(self._file)

    def state(self, row: int) -> str:
        """Return the state of a picture's file; "" where the store cannot tell."""
        return self._store.state(row) if self._store is not None else ""

    def digest(self, source_id: str, state: str) -> bytes | None:
        """Return the hash of a picture that was good in this very state, else None."""
        found = self._known.get(source_id)
        return bytes.fromhex(found[1]) if found and state and found[0] == state else None

    def add(self, source_id: str, state: str, digest: bytes) -> None:
        """Note a good picture."""
        if state:
            self._new[source_id] = [state, digest.hex()]

    def save(self) -> None:
        """Write down what is new; a cache folder that cannot be written costs time, not the run."""
        if self._store is None or all(self._known.get(i) == v for i, v in self._new.items()):
            return
        try:
            content = json.dumps({**self._known, **self._new})
            storage.write_bytes(self._file, content.encode())
        except StorageError:
            pass  # decoded again at the next start


def _file_of(place: str, max_pixels: float) -> Path:
    what = json.dumps([_FORM, place, max_pixels])
    name = hashlib.blake2b(what.encode(), digest_size=16).hexdigest()
    return cache_folder() / "readable" / f"{name}.json"


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
