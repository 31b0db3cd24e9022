"""What a source of data (folder, tables) says is there, before any image is decoded."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass

from gendataagent.data.sets import ImageStore

TRAIN, VALIDATION, TEST = SPLITS = ("train", "validation", "test")

_SPLIT_WORDS = {
    "train": TRAIN, "training": TRAIN,
    "validation": VALIDATION, "valid": VALIDATION, "val": VALIDATION, "dev": VALIDATION,
    "test": TEST, "testing": TEST,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Item:
    """One image that is said to be there: its row in the store, and what it is called."""

    row: int
    id: str
    class_name: str
    split: str


@dataclass(frozen=True, slots=True)
class Quarantined:
    """One thing that was refused: its file path (relative to the data) or file and row; why."""

    name: str
    reason: str


@dataclass(frozen=True, slots=True)
class PaperCounts:
    """How many images and classes the paper has in a data set (Table 5 [S])."""

    title: str
    train: int
    test: int
    classes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """All items of a source. A source without splits has them all in "train".

    Args:
        class_names: every class the source knows, in label order, with images or not.
        paper: what to compare the counts with, if this is one of the paper's data sets.
    """

    store: ImageStore
    items: tuple[Item, ...]
    class_names: tuple[str, ...]
    quarantined: tuple[Quarantined, ...] = ()
    notes: tuple[str, ...] = ()
    paper: PaperCounts | None = None


def split_of(name: str) -> str | None:
    """Return the split a folder name or a data set's split name stands for, else None."""
    return _SPLIT_WORDS.get(name.lower().removesuffix("_set"))


def split_in(stem: str) -> str | None:
    """Return the split named by a word of a file stem, as in "train-00000-of-00002" or "val1"."""
    for word in re.split(r"[^a-zA-Z]+", stem):
        if split := split_of(word):
            return split
    return None


def readable(name: str) -> str:
    """Return a file name as text that can be encoded and compared: NFC, bad bytes as \\xNN."""
    text = name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    return unicodedata.normalize("NFC", text)


def some(names: list[str], *, at_most: int = 5) -> str:
    """Return the first few names for a message, and how many more there are."""
    more = f" and {len(names) - at_most} more" if len(names) > at_most else ""
    return ", ".join(names[:at_most]) + more
