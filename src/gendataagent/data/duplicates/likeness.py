"""Which images of a data set are copies of one another, and whether likeness can tell at all."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import astuple, dataclass, field
from pathlib import Path

from gendataagent.core import files
from gendataagent.core.cache import cache_folder
from gendataagent.core.errors import StorageError
from gendataagent.core.progress import OnProgress
from gendataagent.data.duplicates.near_duplicates import Match, near_duplicates_within
from gendataagent.data.duplicates.sketches import Shared, Sketches

# A chain of look-alikes through more than this share of a set is no photograph and its copies.
ALIKE_SHARE = 0.1
_LEAST_ALIKE = 8
CACHE_FROM_IMAGES = 2000  # smaller sets take seconds and need no cache file
_FORMAT = 2  # raise it when likeness is measured differently
_STRICTER = (0.98, 0.99)


@dataclass(frozen=True, slots=True)
class Likeness:
    """The near-duplicates among the images of a set.

    Args:
        pairs: rows of both images in `row` and `reference`.
        shared: what all images of the set share, removed before they were compared.
        all_alike: whether so many images look alike (digits, X-rays, products on white) that
            copies cannot be told from relatives. Then `pairs` are the closest ones, good for
            keeping images together, not for removing any.
    """

    pairs: tuple[Match, ...] = ()
    shared: Shared = field(default_factory=Shared, repr=False)
    all_alike: bool = False


def measure_likeness(sketches_N: Sketches, *, on_progress: OnProgress | None = None) -> Likeness:
    """Return the near-duplicates among all images of a set; cached for large sets.

    Args:
        on_progress: called with (images compared, images in total).
    """
    shared = Shared.of(sketches_N)
    path = _cache_file(sketches_N) if len(sketches_N) >= CACHE_FROM_IMAGES else None
    known = _read(path, len(sketches_N)) if path else None
    if known is not None:
        pairs, all_alike = known
        if on_progress:
            on_progress(len(sketches_N), len(sketches_N))
        return Likeness(pairs, shared, all_alike)
    found = _measure(sketches_N, shared, on_progress)
    if path:
        content = {"pairs": [astuple(pair) for pair in found.pairs], "all_alike": found.all_alike}
        with contextlib.suppress(StorageError):  # measured again at the next run
            files.write_cached(path, json.dumps(content).encode())
    return found


def _measure(sketches_N: Sketches, shared: Shared, on_progress: OnProgress | None) -> Likeness:
    likely = near_duplicates_within(sketches_N, shared=shared, likely=True, on_progress=on_progress)
    count = len(sketches_N)
    most = max(_LEAST_ALIKE, ALIKE_SHARE * count)
    if _largest_group(likely, count) <= most:
        return Likeness(tuple(likely), shared)
    pairs = [pair for pair in likely if pair.certain]
    if _largest_group(pairs, count) <= most:
        return Likeness(tuple(pairs), shared)
    for threshold in _STRICTER:
        pairs = [pair for pair in pairs if pair.correlation > threshold]
        if _largest_group(pairs, count) <= most:
            return Likeness(tuple(pairs), shared, all_alike=True)
    return Likeness((), shared, all_alike=True)


def _cache_file(sketches_N: Sketches) -> Path | None:
    digest = hashlib.blake2b(str(_FORMAT).encode(), digest_size=16)
    digest.update(sketches_N.tobytes())
    try:
        return cache_folder() / "likeness" / f"{digest.hexdigest()}.json"
    except StorageError:  # nowhere to keep a cache
        return None


def _read(path: Path, count: int) -> tuple[tuple[Match, ...], bool] | None:
    """Return the content of a cache file; None if it is missing or damaged."""
    try:
        content = json.loads(files.read_cached(path) or b"")
        pairs = tuple(
            Match(int(a), int(b), float(c), bool(mirrored), bool(certain))
            for a, b, c, mirrored, certain in content["pairs"]
        )
        valid = all(0 <= pair.row < pair.reference < count for pair in pairs)
        return (pairs, bool(content["all_alike"])) if valid else None
    except (OSError, ValueError, TypeError, LookupError, RecursionError):
        return None


def _largest_group(pairs: Iterable[Match], count: int) -> int:
    groups = joined(count, ((pair.row, pair.reference) for pair in pairs))
    return max(Counter(groups).values(), default=0)


def joined(count: int, links: Iterable[tuple[int, int]]) -> Sequence[int]:
    """Return a group number for each of `count` images; linked images have the same."""
    parent = list(range(count))

    def root(index: int) -> int:
        while parent[index] != index:
            parent[index] = parent[parent[index]]
            index = parent[index]
        return index

    for one, other in links:
        first, second = sorted((root(one), root(other)))
        parent[second] = first
    return [root(index) for index in range(count)]
