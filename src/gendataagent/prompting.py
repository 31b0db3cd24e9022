"""The words around a caption, and the guard that keeps the class in the prompt."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

# The format of the paper [S]; the class name leads because captioners miss fine-grained names and
# text encoders cut long prompts at the end.
PROMPT_FORMAT = "A photo of {class_name}, which is {caption}"
PROMPT_WITHOUT_CAPTION = "A photo of {class_name}"


def readable_class_name(name: str) -> str:
    """Return a folder's name as words: underscores become spaces, runs of space shrink to one."""
    return re.sub(r"[\s_]+", " ", unicodedata.normalize("NFC", name)).strip() or name


def compose_prompt(class_name: str, caption: str) -> str:
    """Return the full prompt of a caption; an empty caption leaves the class alone."""
    words = " ".join(caption.split()).rstrip(". ")
    name = readable_class_name(class_name)
    if not words:
        return PROMPT_WITHOUT_CAPTION.format(class_name=name)
    return PROMPT_FORMAT.format(class_name=name, caption=words)


def names_another_class(caption: str, class_name: str, class_names: Sequence[str]) -> str | None:
    """Return the name of another class that `caption` speaks of as a whole word, or None.

    Names contained in the own class name do not count ("frog" inside "green frog").
    """
    text = readable_class_name(caption).casefold()
    own = readable_class_name(class_name).casefold()
    for other in class_names:
        name = readable_class_name(other).casefold()
        if name == own or _has_word(own, name):
            continue
        if _has_word(text, name):
            return other
    return None


def _has_word(text: str, word: str) -> bool:
    return re.search(rf"(?<!\w){re.escape(word)}(?!\w)", text) is not None
