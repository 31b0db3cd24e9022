"""Captions kept on disk by image and captioner, so that a second run costs nothing.

One file a captioner and its settings, one JSON object a line. Lines are only ever appended, several
processes may do so at once, and a line that is torn or unknown costs its caption alone.
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
from gendataagent.core import files
from gendataagent.core.cache import cache_folder
from gendataagent.core.errors import StorageError
from gendataagent.core.protocols import Captioner, CaptionRequest

OFF = "off"
_LONGEST_CAPTION = 2000  # letters; a longer one was not written by this module


class CacheableCaptioner(Captioner, Protocol):
    """A captioner whose captions depend on image, model and a few settings alone."""

    cache_settings: Mapping[str, str | int]

    def check(self) -> None:
        """Raise `ModelError` for what can be known to be wrong without loading the model."""
        ...

    def caption_batches(self, requests: Sequence[CaptionRequest]) -> Iterator[Mapping[int, str]]:
        """Yield position -> caption of the requests, batch by batch, as they are made."""
        ...


class CachedCaptioner:
    """Asks the captioner inside only for images that it has not seen, in any run.

    Each batch is on disk before the next begins. Where the folder cannot be used, captions go on
    without it, and `notes` says so.

    Args:
        folder: where the files of all captioners lie.

    Attributes:
        found: images whose caption was there; made: those the captioner was asked for.
        notes: sentences a person should see.
    """

    def __init__(self, inner: CacheableCaptioner, folder: Path) -> None:
        self._inner = inner
        self._folder = folder
        self._path: Path | None = None
        self._read_bytes = 0
        self._known: dict[str, str] = {}
        self.description = inner.description
        self.found = 0
        self.made = 0
        self.notes: tuple[str, ...] = ()

    def check(self) -> None:
        """Look at the captioner inside before anything is loaded."""
        self._inner.check()

    def caption(self, requests: Sequence[CaptionRequest]) -> list[str]:
        """Return one caption per image; the model inside is loaded only if one is not known."""
        self._read()
        # A image that cannot be decoded has no key; it goes by its place here, and is not kept.
        keys = [image_key(r.image) or f"#{place}" for place, r in enumerate(requests)]
        captions = {key: self._known[key] for key in keys if key in self._known}
        places = {key: place for place, key in enumerate(keys) if key not in captions}
        missing = list(places)
        if missing:
            to_ask = [requests[place] for place in places.values()]
            for batch in self._inner.caption_batches(to_ask):
                made = {missing[number]: caption for number, caption in batch.items()}
                captions |= made
                self._keep({key: text for key, text in made.items() if not key.startswith("#")})
        self.made += len(missing)
        self.found += len(requests) - len(missing)
        return [captions[key] for key in keys]

    def release(self) -> None:
        """Let go of the model inside; it is loaded again when needed."""
        self._inner.release()

    def _path_now(self) -> Path:
        """Return the file of the captioner as it is known now.

        A model that had to be downloaded has its revision only then; the file goes by that.
        """
        self.description = self._inner.description
        what = {
            "name": self.description.name,
            "revision": self.description.revision,
            **self._inner.cache_settings,
        }
        digest = hashlib.blake2b(json.dumps(what, sort_keys=True).encode(), digest_size=8)
        slug = re.sub(r"[^A-Za-z0-9.-]+", "-", self.description.name)[-60:].strip("-.")
        path = self._folder / f"{slug or 'captioner'}-{digest.hexdigest()}.jsonl"
        if path != self._path:
            self._path, self._read_bytes, self._known = path, 0, {}
        return path

    def _read(self) -> None:
        """Learn what the file holds beyond what was read of it; other processes add to it too."""
        path = self._path_now()
        try:
            with open(path, "rb") as stream:
                stream.seek(self._read_bytes)
                new = stream.read()
        except FileNotFoundError:
            return
        except OSError as error:
            self._note(f"Kept captions cannot be read ({error}); they are made again.")
            return
        whole = new.rpartition(b"\n")[0]  # behind it: a line that is torn, or being written
        self._read_bytes += len(whole)
        self._known.update(_entries(whole))

    def _keep(self, captions: Mapping[str, str]) -> None:
        """Append a batch in one piece and make it durable."""
        path = self._path_now()
        self._known.update(captions)
        lines = [json.dumps({"image": key, "caption": text}) for key, text in captions.items()]
        # The line break first ends a line that an earlier crash may have torn.
        piece = "\n".join(["", *lines, ""]).encode()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            # Unbuffered: one write, which other processes that append cannot come in between.
            with open(path, "ab", buffering=0) as stream:
                if stream.write(piece) < len(piece):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                os.fsync(stream.fileno())
        except OSError as error:
            self._note(
                f"Captions cannot be kept in {path.parent} ({error.strerror or error}), so another "
                "run makes them again; name another folder with prompting.caption_cache."
            )

    def _note(self, sentence: str) -> None:
        if sentence not in self.notes:
            self.notes = (*self.notes, sentence)


def image_key(image: Image.Image) -> str:
    """Return a hash of a image's size and pixels; "" for one that cannot be decoded."""
    try:
        # the numbers of a palette image say nothing without its palette
        plain = image.convert("RGBA") if image.mode in ("P", "PA") else image
        pixels = plain.tobytes()
    except (OSError, SyntaxError, ValueError):  # truncated, broken
        return ""
    digest = hashlib.blake2b(digest_size=16)
    digest.update(f"{plain.mode} {plain.width} {plain.height} ".encode())
    digest.update(pixels)
    return digest.hexdigest()


def caption_folder(setting: str) -> Path | None:
    """Return the folder that `prompting.caption_cache` stands for, or None for nowhere."""
    if setting in (OFF, ""):
        return None
    if setting != AUTO:
        return Path(setting).expanduser()
    try:
        return cache_folder() / "captions"
    except StorageError:
        return None


def _entries(lines: bytes) -> Iterator[tuple[str, str]]:
    for row in files.parse_journal(lines):
        key, caption = row.get("image"), row.get("caption")
        if isinstance(key, str) and isinstance(caption, str) and len(caption) <= _LONGEST_CAPTION:
            yield key, caption
