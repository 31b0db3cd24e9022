"""Which images are synthetic: as `gendataagent export-data` marks them, in tables and in files."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from PIL import Image

from gendataagent.core.text import counted
from gendataagent.data.index import SPLITS, TEST, TRAIN, VALIDATION, Item

SOURCE, SYNTHETIC, GENERATOR = "source", "synthetic", "generator"
_IN_PNG = "true"  # the text chunk `synthetic`
_IN_JPEG = b'{"synthetic": "true"'  # how the comment begins
_HELD_OUT = "Synthetic images in the"


def marked_rows(columns: Mapping[str, Sequence[Any]]) -> set[int]:
    """Return the rows that are synthetic by the columns `source` and `generator` of an export."""
    if GENERATOR not in columns:
        return set()
    return {row for row, value in enumerate(columns.get(SOURCE, ())) if value == SYNTHETIC}


def is_marked(image: Image.Image) -> bool:
    """Return whether an opened, undecoded image says that it is synthetic."""
    comment = image.info.get("comment")
    return image.info.get(SYNTHETIC) == _IN_PNG or (
        isinstance(comment, bytes) and comment.startswith(_IN_JPEG)
    )


def held_out_notes(items: Iterable[Item], synthetic: Collection[str]) -> list[str]:
    """Return a note for validation and for test, where they hold synthetic images.

    Args:
        synthetic: ids of the synthetic images.
    """
    items = list(items)
    all_of = Counter(item.split for item in items)
    made = Counter(item.split for item in items if item.id in synthetic)
    return [
        f"{_HELD_OUT} {split} split: {made[split]:,} of {all_of[split]:,}, as gendataagent "
        f"export-data marks them. {split.capitalize()} figures do not show what the classifier "
        f"does on real images; put real images in {split}, and these in train."
        for split in (VALIDATION, TEST)
        if made[split]
    ]


def is_held_out_note(note: str) -> bool:
    """Return whether a note is one of `held_out_notes`."""
    return note.startswith(_HELD_OUT)


def measured_notes(items: Sequence[Item], synthetic: Collection[str]) -> list[str]:
    """Return a note on the synthetic images among those that a classifier is measured on."""
    made = Counter(item.split for item in items if item.id in synthetic)
    if not made:
        return []
    by_split = ", ".join(f"{split} {made[split]:,}" for split in SPLITS if made[split])
    where = f" ({by_split})" if set(made) != {TRAIN} else ""
    return [
        f"{made.total():,} of {counted(len(items), 'image', 'images')}{where} are synthetic, as "
        "gendataagent export-data marks them: these figures do not show what the classifier does "
        "on real images."
    ]
