"""Train, validation and test: drawn where they are missing, checked where they are given."""

from __future__ import annotations

import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from gendataagent.config import DataConfig
from gendataagent.core.errors import DataError
from gendataagent.core.records import derive_seed
from gendataagent.data.deduplication import NearDuplicate
from gendataagent.data.listing import SPLITS, TEST, TRAIN, VALIDATION, Item, Quarantined, some
from gendataagent.data.near_duplicates import Uint8Array
from gendataagent.data.sets import LabelledImages


@dataclass(frozen=True, slots=True)
class ImageSplits:
    """A data set ready for a run; the three splits share one tuple of class names.

    Args:
        quarantined: what was refused, with the reason.
        notes: sentences a reader of the run should see.
        fingerprint: hash over split, id and class of all images; the same wherever the data
            lies and in whatever order the system lists the files.
        near_duplicates: images that repeat one of another split, taken out or not.
        thumbnails: split -> [N, 16, 16, 3] of its images in order, for validation and test:
            enough to recognise a copy, without any label.
    """

    train: LabelledImages
    validation: LabelledImages
    test: LabelledImages
    quarantined: tuple[Quarantined, ...]
    notes: tuple[str, ...]
    fingerprint: str
    near_duplicates: tuple[NearDuplicate, ...] = ()
    thumbnails: Mapping[str, Uint8Array] = field(default_factory=dict, repr=False, compare=False)

    @property
    def class_names(self) -> tuple[str, ...]:
        """The classes in label order."""
        return self.train.class_names

    def by_name(self) -> dict[str, LabelledImages]:
        """Return {"train": ..., "validation": ..., "test": ...}."""
        return {TRAIN: self.train, VALIDATION: self.validation, TEST: self.test}

    def to_rows(self) -> list[dict[str, Any]]:
        """Return one JSON row per image (split, id, class, label): the split, written down."""
        return [
            {"split": split, "id": source_id, "class": self.class_names[label], "label": label}
            for split, images in self.by_name().items()
            for source_id, label in zip(images.ids, images.labels, strict=True)
        ]


def fingerprint_of(items: Sequence[Item]) -> str:
    """Return a hash over split, id and class that does not depend on the order of the items."""
    rows = sorted(json.dumps([item.split, item.id, item.class_name]) for item in items)
    return hashlib.blake2b("\n".join(rows).encode(), digest_size=16).hexdigest()


def draw_missing_splits(
    items: Sequence[Item], digests: Mapping[str, bytes], config: DataConfig, *, seed: int
) -> tuple[list[Item], list[str]]:
    """Return the items with the splits that are missing taken from train, and notes.

    Each class gives its share (at least one image) to each missing split; a class of one image
    keeps it in train, and one of two gives the other to test if that is missing. Images with the
    same bytes stay together, or the test would hold what was trained on.
    """
    shares = {VALIDATION: config.validation_share, TEST: config.test_share}
    given = {item.split for item in items}
    missing = [split for split in (TEST, VALIDATION) if split not in given]
    if not missing:
        return list(items), []
    by_class: dict[str, dict[bytes, list[Item]]] = defaultdict(lambda: defaultdict(list))
    for item in items:
        if item.split == TRAIN:
            by_class[item.class_name][digests[item.id]].append(item)
    moved: dict[str, str] = {}
    short: dict[str, list[str]] = {split: [] for split in missing}
    for name, images in sorted(by_class.items()):
        groups = sorted(
            images.values(),
            key=lambda group: derive_seed(seed, "split", min(item.id for item in group)),
        )
        start = 0
        for split, count in _counts(len(groups), missing, shares).items():
            if not count:
                short[split].append(name)
            for group in groups[start : start + count]:
                moved.update((item.id, split) for item in group)
            start += count
    notes = [
        f"No {split} split was given: {count} images were drawn for it from train "
        f"(share {shares[split]:g} of each class, seed {seed})."
        for split, count in sorted(Counter(moved.values()).items())
    ]
    notes += [
        f"Too few images to give any to {split}: {some(names)}."
        for split, names in sorted(short.items())
        if names
    ]
    return [replace(item, split=moved.get(item.id, item.split)) for item in items], notes


def _counts(total: int, missing: Sequence[str], shares: Mapping[str, float]) -> dict[str, int]:
    """Return how many of `total` images each missing split gets; at least one is left."""
    counts = {split: max(1, int(total * shares[split] + 0.5)) for split in missing}
    while total - sum(counts.values()) < 1 and any(counts.values()):
        largest = max(reversed(counts), key=lambda split: counts[split])  # validation on a tie
        counts[largest] -= 1
    return counts


def draw_train_subset(
    items: Sequence[Item], per_class: int, *, seed: int
) -> tuple[list[Item], list[str]]:
    """Return the items with `per_class` training images of each class (0 = all), and notes.

    At one seed a smaller subset is part of every larger one.
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
    notes = [f"Training uses {len(chosen)} images, {per_class} of each class drawn by seed."]
    if small := sorted(name for name, members in by_class.items() if len(members) < per_class):
        notes.append(f"Fewer than data.train_per_class = {per_class} there: {some(small)}.")
    return kept, notes


def check_classes(
    items: Sequence[Item], class_names: Sequence[str]
) -> tuple[tuple[str, ...], list[str]]:
    """Return the classes that have readable training images, in label order, and notes.

    Raises:
        DataError: fewer than two classes, or validation / test images of a class that train
            lacks.
    """
    if repeated := [name for name, count in Counter(class_names).items() if count > 1]:
        raise DataError(f"class names must differ, got twice: {some(repeated)}; rename one")
    per_split = {split: {i.class_name for i in items if i.split == split} for split in SPLITS}
    present = tuple(name for name in class_names if name in per_split[TRAIN])
    notes = []
    for split in (VALIDATION, TEST):
        if unknown := sorted(per_split[split] - set(present)):
            raise DataError(
                f"the {split} split has images of {some(unknown)}, of which train has no "
                f"readable image; train has {some(list(present), at_most=20)}. Add training "
                f"images, or take the class out of {split} (names must be spelled alike)"
            )
        absent = [name for name in present if name not in per_split[split]]
        if absent and per_split[split]:
            notes.append(f"The {split} split has no image of: {some(absent)}.")
    dropped = [name for name in class_names if name not in present]
    if len(present) < 2:
        got = some(list(present)) or "none"
        without = f" (none readable of: {some(dropped)})" if dropped else ""
        raise DataError(
            f"at least two classes with readable images are needed, got {got}{without}. If the "
            "class folders lie one level deeper, give that folder as data.path"
        )
    if dropped:
        notes.append(f"Dropped {len(dropped)} classes without readable images: {some(dropped)}.")
    return present, notes


def duplicate_notes(items: Sequence[Item], digests: Mapping[str, bytes]) -> list[str]:
    """Return notes on images that are byte for byte the same in two splits or two classes."""
    same: dict[bytes, list[Item]] = defaultdict(list)
    for item in items:
        same[digests[item.id]].append(item)
    leaks: dict[tuple[str, str], list[tuple[Item, Item]]] = defaultdict(list)
    torn: list[tuple[Item, Item]] = []
    for group in same.values():
        first = {split: next((i for i in group if i.split == split), None) for split in SPLITS}
        for one, other in ((TRAIN, TEST), (TRAIN, VALIDATION), (VALIDATION, TEST)):
            twin = first[one]
            if twin:
                leaks[one, other] += [(item, twin) for item in group if item.split == other]
        torn += [(group[0], i) for i in group if i.class_name != group[0].class_name][:1]
    notes = [
        f"{len(pairs)} images of {other} are byte for byte in {one} too (first: "
        f"{pairs[0][0].id} = {pairs[0][1].id}); figures on {other} look better than they are."
        for (one, other), pairs in leaks.items()
        if pairs
    ]
    if torn:
        notes.append(
            f"{len(torn)} images carry two different classes (first: {torn[0][0].id} = "
            f"{torn[0][1].id})."
        )
    return notes
