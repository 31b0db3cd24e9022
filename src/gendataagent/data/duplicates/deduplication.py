"""Near-duplicates across splits: found, reported, and removed from train and validation.

Removed are training images that are near-duplicates of a validation or test image, and validation
images that are near-duplicates of a test image. The test split is never changed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from gendataagent.config import DataConfig
from gendataagent.data.duplicates.likeness import Likeness
from gendataagent.data.index import TEST, TRAIN, VALIDATION, Item, first_few

TOO_MANY = 0.2  # of a split: the images are all alike, or the split itself is wrong
ALL_ALIKE = (
    "The images of this set are all alike, even without what they share: near-duplicates cannot be "
    "told from relatives. None were removed, and synthetic images are not refused as copies of "
    "validation or test images. If the splits share scenes (frames of one film), set data.group_by."
)
_PAIRS = ((VALIDATION, TEST), (TRAIN, TEST), (TRAIN, VALIDATION))


@dataclass(frozen=True, slots=True, kw_only=True)
class NearDuplicate:
    """An image of one split and its closest near-duplicate in another.

    Args:
        correlation: of the two laid over each other, above `DUPLICATE_CORRELATION` and at most 1.
        mirrored: whether one is the mirror image of the other.
        removed: whether the image was removed from its split.
        removable: whether data.near_duplicates = remove removes it.
    """

    split: str
    id: str
    reference_split: str
    reference_id: str
    correlation: float
    mirrored: bool
    removed: bool = False
    removable: bool = False

    def to_json(self) -> dict[str, Any]:
        """Return the fields as plain JSON values."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Deduplicated:
    """The items kept, every near-duplicate found (closest first), and notes."""

    items: list[Item]
    found: tuple[NearDuplicate, ...]
    notes: list[str]


def deduplicate(items: Sequence[Item], likeness: Likeness, config: DataConfig) -> Deduplicated:
    """Return the items kept under `data.near_duplicates`, and the near-duplicates found.

    A split that would lose more than a fifth of its images keeps all of them, and so do all splits
    where the images are all alike (digits, X-rays): there copies cannot be told from relatives. A
    class keeps its last training images.

    Args:
        items: in the order of the sketches that `likeness` was measured on.
    """
    if config.near_duplicates == "off":
        return Deduplicated(list(items), (), [])
    if likeness.all_alike:
        return Deduplicated(list(items), _across(items, likeness), [ALL_ALIKE])
    found = _across(items, likeness)
    if not found:
        return Deduplicated(list(items), (), [])
    removed_ids, notes = _to_remove(items, found)
    if config.near_duplicates == "report":
        found = tuple(replace(pair, removable=pair.id in removed_ids) for pair in found)
        note = (
            f"Near-duplicates across splits: {_counted(found)}. They were kept "
            "(data.near_duplicates = report), so validation and test figures may be too high."
        )
        return Deduplicated(list(items), found, [note])
    marked = [
        replace(pair, removed=pair.id in removed_ids, removable=pair.id in removed_ids)
        for pair in found
    ]
    if removed := [pair for pair in marked if pair.removed]:
        notes.insert(0, f"Removed near-duplicates across splits: {_counted(removed)}.")
    kept = [item for item in items if item.id not in removed_ids]
    return Deduplicated(kept, tuple(marked), notes)


def _across(items: Sequence[Item], likeness: Likeness) -> tuple[NearDuplicate, ...]:
    """Return each image's closest near-duplicate in each later split, closest first."""
    found: dict[tuple[str, str], NearDuplicate] = {}
    rank = {TEST: 0, VALIDATION: 1, TRAIN: 2}
    for pair in likeness.pairs:
        first, second = items[pair.row], items[pair.reference]
        if first.split == second.split or not pair.certain:
            continue
        one, other = sorted((first, second), key=lambda item: -rank[item.split])
        key = one.id, other.split
        if key not in found or found[key].correlation < pair.correlation:
            found[key] = NearDuplicate(
                split=one.split,
                id=one.id,
                reference_split=other.split,
                reference_id=other.id,
                correlation=pair.correlation,
                mirrored=pair.mirrored,
            )
    order = sorted(found.values(), key=lambda p: (-p.correlation, p.id, p.reference_split))
    return tuple(order)


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
                "many to be accidental copies, so none were removed. The split itself separates "
                "copies or scenes (frames of one film): draw it again from all images, with "
                "data.group_by if the names tell the scene; until then validation and test "
                "figures are too high."
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
