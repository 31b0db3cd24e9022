"""Decode every image in threads, to find the ones that cannot be used; large sets only once."""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from gendataagent.core.errors import ImageUnreadableError
from gendataagent.data.images import open_image, to_rgb
from gendataagent.data.listing import Item, Quarantined
from gendataagent.data.near_duplicates import DECODED_PX, THUMBNAIL_SHAPE, Uint8Array, thumbnail
from gendataagent.data.scan_cache import Verdicts
from gendataagent.data.sets import ImageStore

REMEMBER_FROM = 2000  # images; smaller sets are decoded in seconds and leave no files behind
_ITEMS_PER_TASK = 32
_MAX_THREADS = 16
_CHUNK_BYTES = 1 << 20
_LARGE_PX = 24_000_000
_one_large_image = threading.Lock()  # bounds memory to a few small images and one large one


class Good(NamedTuple):
    """What is kept of a image that decodes: the hash of its bytes, and its thumbnail."""

    digest: bytes
    thumbnail: Uint8Array


@dataclass(frozen=True, slots=True, eq=False)
class Screened:
    """The items whose images decode, the others with the reason, and id -> hash of the bytes.

    `thumbnails_N` holds those of the items, [N, 16, 16, 3].
    """

    items: tuple[Item, ...]
    quarantined: tuple[Quarantined, ...]
    digests: dict[str, bytes] = field(repr=False)
    thumbnails_N: Uint8Array = field(repr=False)


def screen(
    store: ImageStore,
    items: Sequence[Item],
    *,
    max_pixels: float,
    progress: Callable[[int, int], None] | None = None,
) -> Screened:
    """Return which images can be decoded in full; `progress` gets (done, total).

    What is larger than `max_pixels` is refused by its header alone. Of `REMEMBER_FROM` images or
    more the good ones are remembered: at the next start only new and changed files are decoded.
    """
    remembered = Verdicts(store, max_pixels) if len(items) >= REMEMBER_FROM else None
    tasks = [items[i : i + _ITEMS_PER_TASK] for i in range(0, len(items), _ITEMS_PER_TASK)]
    good: list[Item] = []
    quarantined: list[Quarantined] = []
    digests: dict[str, bytes] = {}
    thumbnails: list[Uint8Array] = []
    done = 0
    pool = ThreadPoolExecutor(min(_MAX_THREADS, _usable_cpus() + 1))
    try:
        for verdicts in pool.map(
            lambda task: [_recheck(store, i, max_pixels, remembered) for i in task], tasks
        ):
            for item, verdict in zip(items[done : done + len(verdicts)], verdicts, strict=True):
                if isinstance(verdict, Good):
                    good.append(item)
                    digests[item.id] = verdict.digest
                    thumbnails.append(verdict.thumbnail)
                else:
                    quarantined.append(Quarantined(store.name(item.row), verdict))
            done += len(verdicts)
            if progress:
                progress(done, len(items))
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
        if remembered:
            remembered.save()
    thumbnails_N = np.array(thumbnails, dtype=np.uint8).reshape(-1, *THUMBNAIL_SHAPE)
    return Screened(tuple(good), tuple(quarantined), digests, thumbnails_N)


def _recheck(
    store: ImageStore, item: Item, max_pixels: float, remembered: Verdicts | None
) -> Good | str:
    """Return what `_check` does, from memory if the file is as it was when it was found good."""
    if remembered is None:
        return _check(store, item, max_pixels)
    try:
        state = remembered.state(item.row)
    except OSError:  # gone, or no permission: `_check` says so
        state = ""
    known = remembered.good(item.id, state)
    if known is not None:
        return Good(*known)
    verdict = _check(store, item, max_pixels)
    if isinstance(verdict, Good):
        remembered.add(item.id, state, verdict.digest, verdict.thumbnail)
    return verdict


def _check(store: ImageStore, item: Item, max_pixels: float) -> Good | str:
    """Return the hash and the thumbnail of a image, or the reason why it cannot be used."""
    try:
        with store.open(item.row) as stream:
            image = open_image(stream, max_pixels)
            large = image.width * image.height > _LARGE_PX
            # JPEG at down to 1/8: all its data is still read, in half the time.
            image.draft(None, (DECODED_PX, DECODED_PX))
            with _one_large_image if large else nullcontext():
                small = thumbnail(to_rgb(image))
            stream.seek(0)
            digest = hashlib.blake2b(digest_size=16)
            while chunk := stream.read(_CHUNK_BYTES):
                digest.update(chunk)
            return Good(digest.digest(), small)
    except OSError as error:
        return f"cannot be read: {error.strerror or error}"
    except ImageUnreadableError as error:
        return str(error)


def _usable_cpus() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
