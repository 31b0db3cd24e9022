"""The index of a data set: which images a folder, table or archive names, none decoded yet."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from gendataagent.data.sets import ImageStore

TRAIN, VALIDATION, TEST = SPLITS = ("train", "validation", "test")

_SPLIT_WORDS = {
    "train": TRAIN, "training": TRAIN,
    "validation": VALIDATION, "valid": VALIDATION, "val": VALIDATION, "dev": VALIDATION,
    "test": TEST, "testing": TEST,
}  # fmt: skip

_WITHOUT_MEANING = re.compile("[-_ ]?(set|images?|imgs?|photos?|data)$")


@dataclass(frozen=True, slots=True)
class Item:
    """One image by name: its row in the store, id, class and split."""

    row: int
    id: str
    class_name: str
    split: str


@dataclass(frozen=True, slots=True)
class Quarantined:
    """One image that cannot be used: its relative file path, or file and row; and the reason."""

    name: str
    reason: str


@dataclass(frozen=True, slots=True)
class PaperCounts:
    """Images and classes of a data set in the paper (Table 5 [S])."""

    title: str
    train: int
    test: int
    classes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetIndex:
    """All items of a data set; one without splits has them all in "train".

    Args:
        class_names: every class the data set names, in label order, with images or not.
        notes: sentences for the user.
        groups: id -> value of the column named by data.group_by, for tables.
        group_column: that column, "" for none.
        photos: id -> the photograph it was cut out of, for boxes.
        synthetic: ids of the images that a table marks as synthetic; see `synthetic_marks`.
        paper: the paper's counts, if this is one of its data sets.
    """

    store: ImageStore
    items: tuple[Item, ...]
    class_names: tuple[str, ...]
    quarantined: tuple[Quarantined, ...] = ()
    notes: tuple[str, ...] = ()
    paper: PaperCounts | None = None
    groups: Mapping[str, str] = field(default_factory=dict, repr=False)
    group_column: str = ""
    photos: Mapping[str, str] = field(default_factory=dict, repr=False)
    synthetic: frozenset[str] = field(default=frozenset(), repr=False)


def split_of(name: str) -> str | None:
    """Return the split that a folder or split name means, such as "train_images", else None."""
    return _SPLIT_WORDS.get(_WITHOUT_MEANING.sub("", name.lower()))


def split_in(stem: str) -> str | None:
    """Return the split named in a file stem such as "train-00000-of-00002" or "valLabels1"."""
    return next(filter(None, map(split_of, re.findall("[A-Z]?[a-z]+|[A-Z]+", stem))), None)


def split_of_file(name: str) -> str | None:
    """Return the split named by a file, else by the nearest folder above it, else None."""
    path = Path(name)
    words = (path.stem, *(folder.name for folder in path.parents))
    return next(filter(None, map(split_in, words)), None)


def splits_of_folders(paths: Sequence[str | None]) -> list[str] | None:
    """Return the split that a folder of each path names; None unless all have one, and differ.

    Args:
        paths: with forward slashes; None = a missing image, which is of train.
    """
    found = [
        next(filter(None, map(split_of, path.split("/")[:-1])), None) if path else TRAIN
        for path in paths
    ]
    splits = [split for split in found if split is not None]
    return splits if len(splits) == len(found) and len(set(splits)) > 1 else None


def normalise_name(name: str) -> str:
    """Return a file name as encodable text in NFC, undecodable bytes as \\xNN."""
    text = name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    return unicodedata.normalize("NFC", text)


def first_few(names: Sequence[str], *, at_most: int = 5) -> str:
    """Return the first names for a message, and how many more there are."""
    more = f" and {len(names) - at_most} more" if len(names) > at_most else ""
    return ", ".join(names[:at_most]) + more
