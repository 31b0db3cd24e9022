"""Class names in words, for prompts: from the names that folders and tables use."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from gendataagent.core.text import as_name
from gendataagent.data.imagenet_classes import imagenet_names
from gendataagent.data.index import DatasetIndex

_WORDNET_ID = re.compile(r"n\d{8}")
_NUMBERED = re.compile(r"(\d{2,}\.|n\d{8}[-_ ])(?=\D)")


def with_readable_class_names(index: DatasetIndex) -> DatasetIndex:
    """Return the index with class names in words; ids and label order are unchanged.

    Two names that would become the same are left unchanged.
    """
    names = dict(zip(index.class_names, readable_class_names(index.class_names), strict=True))
    changed = [(old, new) for old, new in names.items() if old != new]
    if not changed:
        return index
    more = f" and {len(changed) - 2} more" if len(changed) > 2 else ""
    examples = ", ".join(f"{as_name(old)} -> {new!r}" for old, new in changed[:2])
    return replace(
        index,
        items=tuple(replace(item, class_name=names[item.class_name]) for item in index.items),
        class_names=tuple(names.values()),
        notes=(*index.notes, f"Class names were made readable: {examples}{more}."),
    )


def readable_class_names(names: Sequence[str]) -> tuple[str, ...]:
    """Return the names as words.

    "n02123045" becomes "tabby cat" (the 1,000 classes of ImageNet), "yorkshire_terrier" "yorkshire
    terrier", and "001.Black_footed_Albatross" "Black footed Albatross" if all names are numbered
    like that, or "n02085620-Chihuahua" "Chihuahua" if all begin with a WordNet id.
    """
    known = imagenet_names()
    numbered = all(_NUMBERED.match(name) for name in names)
    words = []
    for name in names:
        if _WORDNET_ID.fullmatch(name):
            words.append(known.get(name, name))
        else:
            words.append(
                readable_class_name(_NUMBERED.sub("", name, count=1) if numbered else name)
            )
    alike = Counter(word.casefold() for word in words)
    chosen = tuple(
        word if alike[word.casefold()] == 1 else name
        for name, word in zip(names, words, strict=True)
    )
    return chosen if len(set(chosen)) == len(set(names)) else tuple(names)


def readable_class_name(name: str) -> str:
    """Return a folder's name as words: underscores become spaces, runs of space shrink to one."""
    return re.sub(r"[\s_]+", " ", unicodedata.normalize("NFC", name)).strip() or name


def name_key(name: str) -> str:
    """Return what a name reads as, the same for "apple_pie" and "Apple pie"."""
    words = imagenet_names().get(name, name) if _WORDNET_ID.fullmatch(name) else name
    return readable_class_name(words).casefold()


def name_keys(names: Sequence[str]) -> tuple[str, ...]:
    """Return `name_key` of each name, without the numbers if all names are numbered."""
    numbered = all(_NUMBERED.match(name) for name in names)
    return tuple(name_key(_NUMBERED.sub("", name, count=1) if numbered else name) for name in names)
