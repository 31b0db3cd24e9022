"""Near-duplicates across splits: found by thumbnails, told, and taken out of train and validation.

Nothing is taken out of test. What goes: training images that repeat a validation or test image,
and validation images that repeat a test image.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from gendataagent.config import DataConfig
from gendataagent.data.listing import TEST, TRAIN, VALIDATION, Item, some
from gendataagent.data.near_duplicates import Search, Uint8Array, find_repeats

TOO_MANY = 0.2  # of a split: then the images are all alike, or the split itself is wrong
_PAIRS = ((VALIDATION, TEST), (TRAIN, TEST), (TRAIN, VALIDATION))


@dataclass(frozen=True, slots=True, kw_only=True)
class NearDuplicate:
    """A image of one split and the image of another that it repeats most closely.

    Args:
        correlation: of their thumbnails, above data.near_duplicate_correlation and at most 1.
        mirrored: whether it repeats the mirror image.
        removed: whether it was taken out of its split.
    """

    split: str
    id: str
    repeats_split: str
    repeats_id: str
    correlation: float
    mirrored: bool
    removed: bool = False

    def to_json(self) -> dict[str, Any]:
        """Return the fields as plain JSON values."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Weeded:
    """The items that stay, every near-duplicate found (closest first), and notes."""

    items: list[Item]
    found: tuple[NearDuplicate, ...]
    notes: list[str]


def weed(
    items: Sequence[Item],
    thumbnails_N: Uint8Array,
    config: DataConfig,
    *,
    on_search: Search | None = None,
) -> Weeded:
    """Return what stays after `data.near_duplicates` was done, and what was found.

    A split of which more than a fifth would go keeps all its images, and a class its last ones:
    thumbnails that are all alike (digits, X-rays) tell no copies from relatives.

    Args:
        thumbnails_N: [N, 16, 16, 3], one per item.
        on_search: called with (images compared, images to compare).
    """
    if config.near_duplicates == "off":
        return Weeded(list(items), (), [])
    found = _find(items, thumbnails_N, config.near_duplicate_correlation, on_search)
    if not found:
        return Weeded(list(items), (), [])
    if config.near_duplicates == "report":
        note = (
            f"Near-duplicates across splits: {_counted(found)}. They stay (data.near_duplicates = "
            "report); figures on what they repeat look better than they are."
        )
        return Weeded(list(items), tuple(found), [note])
    gone, notes = _to_remove(items, found)
    marked = [NearDuplicate(**{**pair.to_json(), "removed": pair.id in gone}) for pair in found]
    if removed := [pair for pair in marked if pair.removed]:
        notes.insert(0, f"Removed near-duplicates across splits: {_counted(removed)}.")
    return Weeded([item for item in items if item.id not in gone], tuple(marked), notes)


def _find(
    items: Sequence[Item],
    thumbnails_N: Uint8Array,
    threshold: float,
    on_search: Search | None,
) -> list[NearDuplicate]:
    rows_of = {
        split: np.array([i for i, item in enumerate(items) if item.split == split], dtype=np.intp)
        for split in (TRAIN, VALIDATION, TEST)
    }
    total = sum(len(rows_of[one]) for one, other in _PAIRS if len(rows_of[other]))
    done = 0
    found: list[NearDuplicate] = []
    for one, other in _PAIRS:
        mine, theirs = rows_of[one], rows_of[other]
        if not len(mine) or not len(theirs):
            continue
        before = done

        def count(rows: int, _: int, before: int = before) -> None:
            if on_search:
                on_search(before + rows, total)

        repeats = find_repeats(
            thumbnails_N[mine], thumbnails_N[theirs], threshold=threshold, on_rows=count
        )
        found += [
            NearDuplicate(
                split=one,
                id=items[mine[repeat.row]].id,
                repeats_split=other,
                repeats_id=items[theirs[repeat.reference]].id,
                correlation=repeat.correlation,
                mirrored=repeat.mirrored,
            )
            for repeat in repeats
        ]
        done += len(mine)
    return sorted(found, key=lambda pair: (-pair.correlation, pair.id, pair.repeats_split))


def _to_remove(
    items: Sequence[Item], found: Sequence[NearDuplicate]
) -> tuple[frozenset[str], list[str]]:
    """Return the ids that go, and notes on those that would but stay."""
    sizes = Counter(item.split for item in items)
    gone: set[str] = set()
    notes: list[str] = []
    for split in (VALIDATION, TRAIN):
        own = [pair for pair in found if pair.split == split]
        ids = {pair.id for pair in own}
        if len(ids) > TOO_MANY * sizes[split]:
            notes.append(
                f"Near-duplicates across splits: {_counted(own)}, of {sizes[split]}. That is too "
                f"many to be copies by accident, so all stay. Either the images are all of one "
                "kind (digits, X-rays): raise data.near_duplicate_correlation until only copies "
                "are listed; or the splits share their scenes (frames of one film): split by "
                "scene, or figures look better than they are."
            )
            continue
        gone |= ids
    classes = {item.class_name for item in items if item.split == TRAIN}
    left = {item.class_name for item in items if item.split == TRAIN and item.id not in gone}
    if last := sorted(classes - left):
        spared = {item.id for item in items if item.split == TRAIN and item.class_name in last}
        gone -= spared
        notes.append(
            f"All training images of {some(last)} repeat held-out ones; they stay, or the class "
            "would have none."
        )
    return frozenset(gone), notes


def _counted(pairs: Sequence[NearDuplicate]) -> str:
    """Return "3 of train repeat test, 1 of validation repeats test"."""
    counts = Counter((pair.split, pair.repeats_split) for pair in pairs)
    return ", ".join(
        f"{counts[one, other]} of {one} repeat{'s' if counts[one, other] == 1 else ''} {other}"
        for one, other in reversed(_PAIRS)
        if counts[one, other]
    )
