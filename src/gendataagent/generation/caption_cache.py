"""Captions kept on disk by image and captioner, so that a second run costs nothing.

One file per captioner and settings, one JSON object per line. Lines are only appended, by several
processes at once if need be; a torn, changed or unknown line costs only its own caption.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from PIL import Image

from gendataagent.config import AUTO
from gendataagent.core.cache import cache_folder
from gendataagent.core.errors import StorageError
from gendataagent.core.files import expand
from gendataagent.core.journal import checked_line, parse_checked
from gendataagent.core.protocols import Captioner, CaptionRequest

OFF = "off"
_LONGEST_CAPTION = 2000  # characters; a longer one was not written by this module


class CacheableCaptioner(Captioner, Protocol):
    """A captioner whose captions depend only on image, model and `cache_settings`."""

    cache_settings: Mapping[str, str | int]

    def check(self) -> None:
        """Raise `ModelError` for faults that show without loading weights."""
        ...

    def caption_batches(self, requests: Sequence[CaptionRequest]) -> Iterator[Mapping[int, str]]:
        """Yield position -> caption of the requests, batch by batch, as they are made."""
        ...


class CachedCaptioner:
    """Asks the inner captioner only for images without a cached caption from any run.

    Each batch is on disk before the next begins. Where the folder cannot be used, captioning
    continues without it, and `notes` says so.

    Args:
        folder: holds the files of all captioners.

    Attributes:
        inner: as given.
        found: images with a cached caption; made: those the captioner was asked for.
        notes: sentences for the user.
    """

    def __init__(self, inner: CacheableCaptioner, folder: Path) -> None:
        self.inner = inner
        self._folder = folder
        self._path: Path | None = None
        self._read_bytes = 0
        self._known: dict[str, str] = {}
        self.description = inner.description
        self.found = 0
        self.made = 0
        self.notes: tuple[str, ...] = ()

    def check(self) -> None:
        """Check the inner captioner without loading weights."""
        self.inner.check()

    def caption(self, requests: Sequence[CaptionRequest]) -> list[str]:
        """Return one caption per image; the model is loaded only if one is missing."""
        self._read()
        # An image that cannot be decoded has no key: its position is used, and it is not kept.
        keys = [image_key(r.image) or f"#{place}" for place, r in enumerate(requests)]
        captions = {key: self._known[key] for key in keys if key in self._known}
        places = {key: place for place, key in enumerate(keys) if key not in captions}
        missing = list(places)
        if missing:
            to_ask = [requests[place] for place in places.values()]
            for batch in self.inner.caption_batches(to_ask):
                made = {missing[number]: caption for number, caption in batch.items()}
                captions |= made
                self._keep({key: text for key, text in made.items() if not key.startswith("#")})
        self.made += len(missing)
        self.found += len(requests) - len(missing)
        return [captions[key] for key in keys]

    def release(self) -> None:
        """Release the inner model; it is loaded again when needed."""
        self.inner.release()

    def _path_now(self) -> Path:
        """Return the file for the captioner's current description.

        A hub model's revision, part of the file's name, may be known only after its download.
        """
        self.description = self.inner.description
        depends_on = {
            "name": self.description.name,
            "revision": self.description.revision,
            **self.inner.cache_settings,
        }
        digest = hashlib.blake2b(json.dumps(depends_on, sort_keys=True).encode(), digest_size=8)
        slug = re.sub(r"[^A-Za-z0-9.-]+", "-", self.description.name)[-60:].strip("-.")
        path = self._folder / f"{slug or 'captioner'}-{digest.hexdigest()}.jsonl"
        if path != self._path:
            self._path, self._read_bytes, self._known = path, 0, {}
        return path

    def _read(self) -> None:
        """Read what was appended since the last time, by other processes too."""
        path = self._path_now()
        try:
            with open(path, "rb") as stream:
                stream.seek(self._read_bytes)
                new = stream.read()
        except FileNotFoundError:
            return
        except OSError as error:
            self._note(f"Cached captions cannot be read ({error}); they are recomputed.")
            return
        complete = new.rpartition(b"\n")[0]  # after it: a line that is torn, or being written
        self._read_bytes += len(complete)
        self._known.update(_entries(complete))

    def _keep(self, captions: Mapping[str, str]) -> None:
        """Append a batch in one piece and make it durable."""
        path = self._path_now()
        self._known.update(captions)
        rows = [{"image": key, "caption": text} for key, text in captions.items()]
        # The line break first ends a line that an earlier crash may have torn.
        piece = b"\n".join([b"", *map(checked_line, rows), b""])
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            # Unbuffered, so that the piece is one write and no other process can append inside it.
            with open(path, "ab", buffering=0) as stream:
                if stream.write(piece) < len(piece):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                os.fsync(stream.fileno())
        except OSError as error:
            self._note(
                f"Captions cannot be cached in {path.parent} ({error.strerror or error}), so other "
                "runs recompute them; set another folder with prompting.caption_cache."
            )

    def _note(self, sentence: str) -> None:
        if sentence not in self.notes:
            self.notes = (*self.notes, sentence)


def image_key(image: Image.Image) -> str:
    """Return a hash of an image's size and pixels, "" if it cannot be decoded."""
    try:
        # palette indices mean nothing without their palette
        plain = image.convert("RGBA") if image.mode in ("P", "PA") else image
        pixels = plain.tobytes()
    except (OSError, SyntaxError, ValueError):  # truncated, broken
        return ""
    digest = hashlib.blake2b(digest_size=16)
    digest.update(f"{plain.mode} {plain.width} {plain.height} ".encode())
    digest.update(pixels)
    return digest.hexdigest()


def caption_folder(setting: str) -> Path | None:
    """Return the folder that `prompting.caption_cache` names, None for no cache."""
    if setting in (OFF, ""):
        return None
    if setting != AUTO:
        return expand(setting)
    try:
        return cache_folder() / "captions"
    except StorageError:
        return None


def _entries(lines: bytes) -> Iterator[tuple[str, str]]:
    for row in filter(None, map(parse_checked, lines.split(b"\n"))):
        key, caption = row.get("image"), row.get("caption")
        if isinstance(key, str) and isinstance(caption, str) and len(caption) <= _LONGEST_CAPTION:
            yield key, caption
