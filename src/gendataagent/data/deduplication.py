"""Near-duplicates across splits: found, reported, and removed from train and validation.

Removed are training images that are near-duplicates of a validation or test image, and validation
images that are near-duplicates of a test image. The test split is never changed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from gendataagent.config import DataConfig
from gendataagent.core.progress import OnProgress
from gendataagent.data.index import TEST, TRAIN, VALIDATION, Item, first_few
from gendataagent.data.near_duplicates import Uint8Array, find_near_duplicates

TOO_MANY = 0.2  # of a split: the images are all alike, or the split itself is wrong
_PAIRS = ((VALIDATION, TEST), (TRAIN, TEST), (TRAIN, VALIDATION))


@dataclass(frozen=True, slots=True, kw_only=True)
class NearDuplicate:
    """An image of one split and its closest near-duplicate in another.

    Args:
        correlation: of their thumbnails, above `DUPLICATE_CORRELATION` and at most 1.
        mirrored: whether one is the mirror image of the other.
        removed: whether the image was removed from its split.
    """

    split: str
    id: str
    reference_split: str
    reference_id: str
    correlation: float
    mirrored: bool
    removed: bool = False

    def to_json(self) -> dict[str, Any]:
        """Return the fields as plain JSON values."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Deduplicated:
    """The items kept, every near-duplicate found (closest first), and notes."""

    items: list[Item]
    found: tuple[NearDuplicate, ...]
    notes: list[str]


def deduplicate(
    items: Sequence[Item],
    thumbnails_N: Uint8Array,
    config: DataConfig,
    *,
    on_search: OnProgress | None = None,
) -> Deduplicated:
    """Return the items kept under `data.near_duplicates`, and the near-duplicates found.

    A split that would lose more than a fifth of its images keeps all of them: where images are all
    alike (digits, X-rays), thumbnails cannot tell copies from relatives. A class keeps its last
    training images.

    Args:
        thumbnails_N: [N, 16, 16, 3], one per item.
        on_search: called with (images compared, images to compare).
    """
    if config.near_duplicates == "off":
        return Deduplicated(list(items), (), [])
    found = _find(items, thumbnails_N, on_search)
    if not found:
        return Deduplicated(list(items), (), [])
    if config.near_duplicates == "report":
        note = (
            f"Near-duplicates across splits: {_counted(found)}. They were kept "
            "(data.near_duplicates = report), so validation and test figures may be too high."
        )
        return Deduplicated(list(items), tuple(found), [note])
    removed_ids, notes = _to_remove(items, found)
    marked = [replace(pair, removed=pair.id in removed_ids) for pair in found]
    if removed := [pair for pair in marked if pair.removed]:
        notes.insert(0, f"Removed near-duplicates across splits: {_counted(removed)}.")
    kept = [item for item in items if item.id not in removed_ids]
    return Deduplicated(kept, tuple(marked), notes)


def _find(
    items: Sequence[Item],
    thumbnails_N: Uint8Array,
    on_search: OnProgress | None,
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

        matches = find_near_duplicates(thumbnails_N[mine], thumbnails_N[theirs], on_progress=count)
        found += [
            NearDuplicate(
                split=one,
                id=items[mine[match.row]].id,
                reference_split=other,
                reference_id=items[theirs[match.reference]].id,
                correlation=match.correlation,
                mirrored=match.mirrored,
            )
            for match in matches
        ]
        done += len(mine)
    return sorted(found, key=lambda pair: (-pair.correlation, pair.id, pair.reference_split))


def _to_remove(
    items: Sequence[Item], found: Sequence[NearDuplicate]
) -> tuple[frozenset[str], list[str]]:
    """Return the ids to remove, and notes on the near-duplicates that are kept."""
    sizes = Counter(item.split for item in items)
    removed: set[str] = set()
    notes: list[str] = []
    for split in (VALIDATION, TRAIN):
        own = [pair for pair in found if pair.split == split]
        ids = {pair.id for pair in own}
        if len(ids) > TOO_MANY * sizes[split]:
            notes.append(
                f"Near-duplicates across splits: {_counted(own)}, of {sizes[split]}. That is too "
                "many to be accidental copies, so none were removed. If the images are all alike "
                "(digits, X-rays), set data.near_duplicates to off; if the splits share scenes "
                "(frames of one film), split by scene: until then validation and test figures are "
                "too high."
            )
            continue
        removed |= ids
    classes = {item.class_name for item in items if item.split == TRAIN}
    left = {item.class_name for item in items if item.split == TRAIN and item.id not in removed}
    if last := sorted(classes - left):
        spared = {item.id for item in items if item.split == TRAIN and item.class_name in last}
        removed -= spared
        notes.append(
            f"All training images of {first_few(last)} are near-duplicates of validation or test "
            "images; they were kept, or the class would have no training images."
        )
    return frozenset(removed), notes


def _counted(pairs: Sequence[NearDuplicate]) -> str:
    """Return "3 in train of test images, 1 in validation of test images"."""
    counts = Counter((pair.split, pair.reference_split) for pair in pairs)
    return ", ".join(
        f"{counts[one, other]} in {one} of {other} images"
        for one, other in reversed(_PAIRS)
        if counts[one, other]
    )
