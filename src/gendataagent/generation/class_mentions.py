"""Which class a caption speaks of: no prompt may ask for the wrong one."""

from __future__ import annotations

import functools
import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from gendataagent.core.text import normalize_whitespace
from gendataagent.data.class_names import readable_class_name
from gendataagent.generation.english import COLOUR_NAMES, is_ordinary, plural, word_forms

# Chinese, Japanese, Korean and Thai do not put spaces between all words.
_SCRIPTS_WITHOUT_SPACES = re.compile(
    r"[\u0e00-\u0e7f\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af\uf900-\ufaff]"
)
_TOKEN = re.compile(r"\w+|[^\w\s-]")
# "{name}" as a thing, not a colour: an article before it, at most two adjectives between them, and
# then the end of the noun phrase.
_WORDS_AFTER_NOUNS = "and|are|at|by|from|in|is|lying|near|next|of|on|or|that|under|which|with"
_NOUN_PHRASE = (
    rf"\b(?:a|an|another|one|the)\s+(?:(?!(?:{_WORDS_AFTER_NOUNS})\b)\w+\s+){{0,2}}"
    + "{name}"
    + rf"(?=\s*(?:$|[^\w\s-])|\s+(?:{_WORDS_AFTER_NOUNS})\b)"
)
_TABLES_KEPT = 8  # sets of classes in use at once; each is built once


def names_another_class(caption: str, class_name: str, class_names: Sequence[str]) -> str | None:
    """Return the name of another class that `caption` mentions, or None.

    Names match as complete words, in the singular or plural. No mention of a class are:

    - names contained in the own class name ("frog" inside "green frog"),
    - names that any caption may hold: letters, numbers, function words ("other"), plain colours;
      see `english.is_ordinary`,
    - names used as colours ("orange, on a green background"; but "an orange on a table" counts).

    The cost depends on the length of the caption, not on the number of classes.
    """
    table = _table(tuple(class_names))
    text = folded_name(caption)
    found = set(table.mentions(text, colours_count=False))
    if not found:
        return None
    own = folded_name(class_name)
    found -= set(table.mentions(own, colours_count=True))
    found = {number for number in found if table.names[number] != own}
    return class_names[min(found)] if found else None


def folded_name(name: str) -> str:
    """Return a class name, or a caption, as it is compared: readable, in lower case, with
    compatibility forms such as full-width letters folded.
    """
    words = readable_class_name(normalize_whitespace(unicodedata.normalize("NFKC", name)))
    return unicodedata.normalize("NFC", words.casefold())


def is_ordinary_name(name: str) -> bool:
    """Return whether a class name consists of ordinary words alone, so that a caption that holds
    it need not speak of the class.
    """
    return all(map(is_ordinary, _TOKEN.findall(folded_name(name))))


@dataclass(frozen=True, slots=True)
class _Table:
    """Every form of every class name, to look up the words of a caption in.

    Args:
        names: as compared, by class number.
        spaced: tokens of a form -> class numbers.
        lengths: how many tokens forms have.
        unspaced: form in a script without spaces -> class numbers.
        unspaced_lengths: how many characters those have.
        colours: names of things that are also colours.
    """

    names: tuple[str, ...]
    spaced: dict[tuple[str, ...], list[int]]
    lengths: tuple[int, ...]
    unspaced: dict[str, list[int]]
    unspaced_lengths: tuple[int, ...]
    colours: tuple[tuple[str, int], ...]

    def mentions(self, text: str, *, colours_count: bool) -> Iterator[int]:
        """Yield the numbers of the classes that a text, as compared, holds."""
        tokens = _TOKEN.findall(text)
        for length in self.lengths:
            for start in range(len(tokens) - length + 1):
                yield from self.spaced.get(tuple(tokens[start : start + length]), ())
        for length in self.unspaced_lengths:
            for start in range(len(text) - length + 1):
                yield from self.unspaced.get(text[start : start + length], ())
        for name, number in self.colours:
            if _is_thing(name, text, colours_count=colours_count):
                yield number


@functools.lru_cache(maxsize=_TABLES_KEPT)
def _table(class_names: tuple[str, ...]) -> _Table:
    names = tuple(map(folded_name, class_names))
    spaced: dict[tuple[str, ...], list[int]] = {}
    unspaced: dict[str, list[int]] = {}
    colours = []
    for number, name in enumerate(names):
        if is_ordinary_name(name):
            continue
        if name in COLOUR_NAMES:
            colours.append((name, number))
            continue
        for form in word_forms(name):
            tokens = tuple(_TOKEN.findall(form))
            if all(map(is_ordinary, tokens)):  # "ha" is no mention in "has"
                continue
            if _SCRIPTS_WITHOUT_SPACES.search(name):
                unspaced.setdefault(form, []).append(number)
            else:
                spaced.setdefault(tokens, []).append(number)
    return _Table(
        names,
        spaced,
        tuple(sorted({len(tokens) for tokens in spaced})),
        unspaced,
        tuple(sorted({len(form) for form in unspaced})),
        tuple(colours),
    )


def _is_thing(name: str, text: str, *, colours_count: bool) -> bool:
    if name not in text and plural(name) not in text:
        return False
    several = rf"(?<!\w){re.escape(plural(name))}(?!\w)"
    once = rf"(?<!\w){re.escape(name)}(?!\w)"
    if not colours_count:
        once = _NOUN_PHRASE.replace("{name}", re.escape(name))
    return bool(re.search(f"{once}|{several}", text))
