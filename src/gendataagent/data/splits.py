"""Train, validation and test: drawn if missing, checked if given."""

from __future__ import annotations

import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from gendataagent.config import DataConfig
from gendataagent.core.errors import DataError
from gendataagent.core.records import derive_seed
from gendataagent.core.text import counted
from gendataagent.data.duplicates.deduplication import NearDuplicate
from gendataagent.data.duplicates.likeness import Likeness
from gendataagent.data.duplicates.sketches import Sketches
from gendataagent.data.index import SPLITS, TEST, TRAIN, VALIDATION, Item, Quarantined, first_few
from gendataagent.data.sets import LabelledImages


@dataclass(frozen=True, slots=True)
class ImageSplits:
    """A data set ready for a run; the three splits share one tuple of class names.

    Args:
        quarantined: unreadable images, each with the reason.
        notes: sentences for the user.
        fingerprint: hash over split, id, class and content of all images; independent of where the
            data is stored, of dates, and of the order of the images.
        near_duplicates: images with a near-duplicate in another split, removed or not.
        sketches: split -> those of its images in order, for validation and test: used to recognise
            copies, without labels.
        likeness: the near-duplicates among all readable images, and what they all share.
    """

    train: LabelledImages
    validation: LabelledImages
    test: LabelledImages
    quarantined: tuple[Quarantined, ...]
    notes: tuple[str, ...]
    fingerprint: str
    near_duplicates: tuple[NearDuplicate, ...] = ()
    sketches: Mapping[str, Sketches] = field(default_factory=dict, repr=False, compare=False)
    likeness: Likeness = field(default_factory=Likeness, repr=False, compare=False)

    @property
    def class_names(self) -> tuple[str, ...]:
        """Class names in label order."""
        return self.train.class_names

    def by_name(self) -> dict[str, LabelledImages]:
        """Return {"train": ..., "validation": ..., "test": ...}."""
        return {TRAIN: self.train, VALIDATION: self.validation, TEST: self.test}

    def to_rows(self) -> list[dict[str, Any]]:
        """Return one JSON row per image: split, id, class, label, hash of its content."""
        return [
            {
                "split": split,
                "id": source_id,
                "class": self.class_names[label],
                "label": label,
                "content": content,
            }
            for split, images in self.by_name().items()
            for source_id, label, content in zip(
                images.ids, images.labels, images.content_hashes(), strict=True
            )
        ]


def fingerprint_of(items: Sequence[Item], digests: Mapping[str, bytes]) -> str:
    """Return a hash over split, id, class and content, independent of the order of the items.

    Args:
        digests: id -> hash of the encoded image.
    """
    rows = sorted(
        json.dumps([item.split, item.id, item.class_name, digests[item.id].hex()]) for item in items
    )
    return hashlib.blake2b("\n".join(rows).encode(), digest_size=16).hexdigest()


def draw_missing_splits(
    items: Sequence[Item],
    groups: Sequence[int],
    config: DataConfig,
    *,
    seed: int,
    synthetic: Collection[str] = (),
) -> tuple[list[Item], list[str]]:
    """Return the items with missing splits drawn from train, stratified by class, and notes.

    Each class gives its share (at least one image) to each missing split, test first; the last
    images of a class stay in train. Images of one group go to the same split, or test would
    contain copies of training images. A group of several classes counts for the class that has
    most images in it. A group with a synthetic image stays in train.

    Args:
        groups: number of each item's group.
        synthetic: ids of the synthetic images.

    Raises:
        DataError: there is no test split, and no real image to draw one from.
    """
    shares = {VALIDATION: config.validation_share, TEST: config.test_share}
    given = {item.split for item in items}
    missing = [split for split in (TEST, VALIDATION) if split not in given]
    if not missing:
        return list(items), []
    by_group: dict[int, list[Item]] = defaultdict(list)
    for item, group in zip(items, groups, strict=True):
        if item.split == TRAIN:
            by_group[group].append(item)
    by_class: dict[str, list[list[Item]]] = {
        item.class_name: [] for item in items if item.split == TRAIN
    }
    real, made = list[list[Item]](), list[Item]()
    for members in by_group.values():
        if any(item.id in synthetic for item in members):
            made += members
        else:
            real.append(members)
    if made and not real and TEST in missing:
        raise DataError(
            f"all {counted(len(made), 'training image is', 'training images are')} synthetic, as "
            "gendataagent export-data marks them, or nearly the same as one; a test split drawn "
            "from them would not show what a classifier does on real images. Put real images in "
            "test/ and validation/ beside train/, or export real and kept images together: "
            "export-data without --only kept"
        )
    for members in real:
        counts = Counter(item.class_name for item in members)
        by_class[min(counts, key=lambda name: (-counts[name], name))].append(members)
    moved: dict[str, str] = {}
    short: dict[str, list[str]] = {split: [] for split in missing}
    for name, members_of in sorted(by_class.items()):
        waiting = sorted(
            members_of,
            key=lambda group: derive_seed(seed, "split", min(item.id for item in group)),
        )
        images = sum(map(len, waiting))
        for split, count in _counts(len(waiting), missing, shares).items():
            if not count:
                short[split].append(name)
                continue
            wanted = max(1, int(images * shares[split] + 0.5)) if len(waiting) < images else count
            for members in _drawn(waiting, wanted, leave=len(missing) - missing.index(split)):
                waiting.remove(members)
                moved.update((item.id, split) for item in members)
    notes = [
        f"No {split} split given: drew {counted(count, 'image', 'images')} from train (share "
        f"{shares[split]:g} of each class, seed {seed})."
        for split, count in sorted(Counter(moved.values()).items())
    ]
    if made:
        count = sum(item.id in synthetic for item in made)
        others = counted(len(made) - count, "real image", "real images")
        notes.append(
            f"{counted(count, 'synthetic image stays', 'synthetic images stay')} in train, as "
            "gendataagent export-data marks them"
            + (f", and so do {others} in a group with one" if len(made) > count else "")
            + f"; no {' or '.join(missing)} image is drawn from them."
        )
    if together := [members for members in by_group.values() if len(members) > 1]:
        notes.append(
            f"{sum(map(len, together)):,} images are near-duplicates of another one or in a group "
            f"with it ({counted(len(together), 'group', 'groups')}); each group was drawn into "
            "one split."
        )
    notes += [
        f"Classes too small for the {split} split: {first_few(names)}."
        for split, names in sorted(short.items())
        if names
    ]
    return [replace(item, split=moved.get(item.id, item.split)) for item in items], notes


def _drawn(waiting: Sequence[list[Item]], wanted: int, *, leave: int) -> list[list[Item]]:
    """Return the first groups that together have at most `wanted` images, at least one group.

    Args:
        leave: groups to leave for the other splits.
    """
    drawn: list[list[Item]] = []
    left = wanted
    for group in waiting:
        if len(group) <= left and len(waiting) - len(drawn) > leave:
            drawn.append(group)
            left -= len(group)
    return drawn or [min(waiting, key=len)]


def _counts(total: int, missing: Sequence[str], shares: Mapping[str, float]) -> dict[str, int]:
    """Return how many of `total` images each missing split gets; at least one stays in train."""
    counts = {split: max(1, int(total * shares[split] + 0.5)) for split in missing}
    while total - sum(counts.values()) < 1 and any(counts.values()):
        largest = max(reversed(counts), key=lambda split: counts[split])  # validation on a tie
        counts[largest] -= 1
    return counts


def draw_train_subset(
    items: Sequence[Item], per_class: int, *, seed: int
) -> tuple[list[Item], list[str]]:
    """Return the items with `per_class` training images of each class (0 = all), and notes.

    With the same seed, a smaller subset is contained in every larger one.
    """
    if not per_class:
        return list(items), []
    by_class: dict[str, list[Item]] = defaultdict(list)
    for item in items:
        if item.split == TRAIN:
            by_class[item.class_name].append(item)
    chosen: set[str] = set()
    for members in by_class.values():
        members.sort(key=lambda item: derive_seed(seed, "train-per-class", item.id))
        chosen.update(item.id for item in members[:per_class])
    kept = [item for item in items if item.split != TRAIN or item.id in chosen]
    notes = [
        f"Training uses {len(chosen)} images: {per_class} of each class, drawn at random by seed."
    ]
    if small := sorted(name for name, members in by_class.items() if len(members) < per_class):
        notes.append(
            f"Classes with fewer than data.train_per_class={per_class} images: {first_few(small)}."
        )
    return kept, notes


def require_unique(class_names: Sequence[str]) -> None:
    """Raise `DataError` if two classes have the same name."""
    if repeated := [name for name, count in Counter(class_names).items() if count > 1]:
        raise DataError(f"class names must be unique, got twice: {first_few(repeated)}; rename one")


def with_images(class_names: Sequence[str], items: Sequence[Item]) -> tuple[str, ...]:
    """Return the classes that have images, in label order; raise as `require_unique`."""
    require_unique(class_names)
    found = {item.class_name for item in items}
    return tuple(name for name in class_names if name in found)


def check_classes(
    items: Sequence[Item], class_names: Sequence[str]
) -> tuple[tuple[str, ...], list[str]]:
    """Return the classes that have readable training images, in label order, and notes.

    Raises:
        DataError: fewer than two classes, or validation or test images of a class without
            training images.
    """
    require_unique(class_names)
    per_split = {split: {i.class_name for i in items if i.split == split} for split in SPLITS}
    present = tuple(name for name in class_names if name in per_split[TRAIN])
    notes = []
    for split in (VALIDATION, TEST):
        if unknown := sorted(per_split[split] - set(present)):
            raise DataError(
                f"the {split} split has images of {first_few(unknown)}, but train has no readable "
                f"ones; train has {first_few(present, at_most=20)}. Add training images, or "
                f"remove the class from {split} (class names must match exactly)"
            )
        absent = [name for name in present if name not in per_split[split]]
        if absent and per_split[split]:
            notes.append(f"The {split} split has no image of: {first_few(absent)}.")
    dropped = [name for name in class_names if name not in per_split[TRAIN]]
    if len(present) < 2:
        got = first_few(list(present)) or "none"
        without = f" (no readable image of: {first_few(dropped)})" if dropped else ""
        raise DataError(
            f"at least two classes with readable images are needed, got {got}{without}. If the "
            "class folders are one level deeper, give that folder as data.path"
        )
    if dropped:
        notes.append(
            f"Dropped {counted(len(dropped), 'class', 'classes')} without readable images: "
            f"{first_few(dropped)}."
        )
    return present, notes


def duplicate_notes(items: Sequence[Item], digests: Mapping[str, bytes]) -> list[str]:
    """Return notes on images with identical bytes in two splits."""
    same: dict[bytes, list[Item]] = defaultdict(list)
    for item in items:
        same[digests[item.id]].append(item)
    leaks: dict[tuple[str, str], list[tuple[Item, Item]]] = defaultdict(list)
    for group in same.values():
        first = {split: next((i for i in group if i.split == split), None) for split in SPLITS}
        for one, other in ((TRAIN, TEST), (TRAIN, VALIDATION), (VALIDATION, TEST)):
            twin = first[one]
            if twin:
                leaks[one, other] += [(item, twin) for item in group if item.split == other]
    return [
        f"Images of {other} that are identical to images of {one}: {len(pairs)} (first: "
        f"{pairs[0][0].id} = {pairs[0][1].id}); {other} figures may be too high."
        for (one, other), pairs in leaks.items()
        if pairs
    ]


def conflict_notes(items: Sequence[Item], digests: Mapping[str, bytes]) -> list[str]:
    """Return a note on images with identical bytes in two classes."""
    first: dict[bytes, Item] = {}
    conflicting: dict[bytes, tuple[Item, Item]] = {}
    for item in items:
        one = first.setdefault(digests[item.id], item)
        if one.class_name != item.class_name:
            conflicting.setdefault(digests[item.id], (one, item))
    if not conflicting:
        return []
    one, other = next(iter(conflicting.values()))
    return [
        f"Images that occur with two different classes: {len(conflicting)} (first: "
        f"{one.id} = {other.id})."
    ]
