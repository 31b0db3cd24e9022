"""From class name and caption to a prompt, and the check for names of other classes."""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence

from gendataagent.core.text import normalize_whitespace
from gendataagent.data.class_names import readable_class_name

# The format of the paper [S]; the class name leads because captioners miss fine-grained names and
# text encoders cut long prompts at the end.
PROMPT_FORMAT = "A photo of {class_name}, which is {caption}"
PROMPT_WITHOUT_CAPTION = "A photo of {class_name}"

# Names of things that captions mostly use as colours: "orange, on a green background".
_COLOURS = (
    "amber apricot aqua chestnut chocolate copper coral cream emerald gold ivory khaki lavender "
    "lemon lilac lime maroon mint mustard olive orange peach pink plum rose ruby rust salmon "
    "sapphire silver turquoise violet"
)
COLOUR_NAMES = frozenset(_COLOURS.split())
_IRREGULAR_PLURALS = {
    "child": "children", "foot": "feet", "goose": "geese", "man": "men", "mouse": "mice",
    "ox": "oxen", "person": "people", "tooth": "teeth", "woman": "women", "knife": "knives",
    "leaf": "leaves", "wolf": "wolves", "calf": "calves", "loaf": "loaves", "shelf": "shelves",
    "wife": "wives", "half": "halves", "cactus": "cacti",
}  # fmt: skip
_IRREGULAR_SINGULARS = {plural: singular for singular, plural in _IRREGULAR_PLURALS.items()}
# Chinese, Japanese, Korean and Thai do not put spaces between all words.
_SCRIPTS_WITHOUT_SPACES = re.compile(
    r"[\u0e00-\u0e7f\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af\uf900-\ufaff]"
)
# "{name}" as a thing, not a colour: an article before it, at most two adjectives between them, and
# then the end of the noun phrase.
_WORDS_AFTER_NOUNS = "and|are|at|by|from|in|is|lying|near|next|of|on|or|that|under|which|with"
_NOUN_PHRASE = (
    rf"\b(?:a|an|another|one|the)\s+(?:(?!(?:{_WORDS_AFTER_NOUNS})\b)\w+\s+){{0,2}}"
    + "{name}"
    + rf"(?=\s*(?:$|[^\w\s-])|\s+(?:{_WORDS_AFTER_NOUNS})\b)"
)


def compose_prompt(class_name: str, caption: str) -> str:
    """Return the prompt of a caption; without a caption it is the class name alone."""
    words = normalize_whitespace(caption).rstrip(". ")
    name = _readable(class_name)
    if not words:
        return PROMPT_WITHOUT_CAPTION.format(class_name=name)
    return PROMPT_FORMAT.format(class_name=name, caption=words)


def names_another_class(caption: str, class_name: str, class_names: Sequence[str]) -> str | None:
    """Return the name of another class that `caption` mentions, or None.

    Names match as complete words, in the singular or plural. Names contained in the own class name
    do not count ("frog" inside "green frog"), nor do names used as colours ("orange, on a green
    background"; but "an orange on a table" counts).
    """
    text = _readable(caption).casefold()
    own = _readable(class_name).casefold()
    for other in class_names:
        name = _readable(other).casefold()
        if not name or name == own or _name_pattern(name, colours_count=True).search(own):
            continue
        if _name_pattern(name, colours_count=False).search(text):
            return other
    return None


def _readable(name: str) -> str:
    return readable_class_name(normalize_whitespace(name))


def word_forms(name: str) -> tuple[str, ...]:
    """Return a name (lower case) with its last word unchanged, in the plural and in the singular.

    By English rules; a name in another language keeps its own form among the results.
    """
    start, space, last = name.rpartition(" ")
    return tuple(
        dict.fromkeys(start + space + word for word in (last, plural(last), singular(last)))
    )


def plural(word: str) -> str:
    """Return the English plural of a word in lower case ("cat" -> "cats"), by rule."""
    if word in _IRREGULAR_PLURALS:
        return _IRREGULAR_PLURALS[word]
    if re.search(r"(s|x|z|ch|sh)$", word):
        return word + "es"
    if re.search(r"[^aeiou]y$", word):
        return word[:-1] + "ies"
    return word + "s"


def singular(word: str) -> str:
    """Return the English singular of a word in lower case ("cats" -> "cat"), by rule.

    A word that is no plural comes back unchanged, "bus", "glass" and "iris" too.
    """
    if word in _IRREGULAR_SINGULARS:
        return _IRREGULAR_SINGULARS[word]
    if re.search(r"[^aeiou]ies$", word) and len(word) > 4:
        return word[:-3] + "y"
    if re.search(r"(ss|x|z|ch|sh)es$", word):
        return word[:-2]
    if re.search(r"[^suiw]s$", word) and len(word) > 3:
        return word[:-1]
    return word


@functools.lru_cache(maxsize=4096)
def _name_pattern(name: str, *, colours_count: bool) -> re.Pattern[str]:
    """Return the pattern of a name; name and text are in lower case."""
    forms = [re.escape(form).replace(r"\ ", r"[\s-]+") for form in word_forms(name)]
    if _SCRIPTS_WITHOUT_SPACES.search(name):
        return re.compile("|".join(forms))
    if name in COLOUR_NAMES and not colours_count:
        several = rf"(?<!\w){re.escape(plural(name))}(?!\w)"
        return re.compile(_NOUN_PHRASE.replace("{name}", re.escape(name)) + "|" + several)
    return re.compile(rf"(?<!\w)(?:{'|'.join(forms)})(?!\w)")
