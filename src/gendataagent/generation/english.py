"""English words as captions use them: function words, numbers, colours, plurals."""

from __future__ import annotations

import re
import unicodedata

from gendataagent.generation.foreign_words import FOREIGN_WORDS


def word_set(words: str) -> frozenset[str]:
    """Return the words of a list written with spaces."""
    return frozenset(words.split())


# Words that say nothing about what an image shows.
FUNCTION_WORDS = word_set(
    "a about above across against all along also an and another any are around as at be been "
    "before behind below beneath beside between but by down during each every for from has have "
    "having he her his in inside into is it its just near next no not of off on one onto or other "
    "out outside over own same seen she so some that the their them there these they this those "
    "through to toward towards under up upon very was were what when where which while who whose "
    "with within without"
)
# Numbers, answers, positions, conditions: words of any caption, whatever it shows.
_ORDINARY_WORDS = word_set(
    "zero two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen "
    "sixteen seventeen eighteen nineteen twenty thirty forty fifty sixty seventy eighty ninety "
    "hundred thousand million billion dozen first second third fourth fifth sixth seventh eighth "
    "ninth tenth last single double half many few several more most less least much both "
    "either neither nor none nothing everything anything something others else unknown unlabeled "
    "unlabelled undefined misc miscellaneous various yes true false good bad ok fine normal "
    "abnormal positive negative pass fail present absent "
    "i me my mine we us our ours you your yours him hers theirs myself if then than because until "
    "unless though although since only too again ever never always often here now how why whether "
    "am do does did done doing had being can could may might must shall should will would let get "
    "got go goes going after away back front side left right top bottom middle centre center upper "
    "lower high low far close open closed big small large little tiny huge long short tall wide "
    "medium average narrow thick thin old new young light dark bright dim dull clear plain empty "
    "full whole part background foreground scene view image photo photograph picture object thing "
    "item things objects items images photos photographs pictures views scenes backgrounds parts "
    "sides lefts rights insides outsides dozens hundreds thousands millions "
    "colour colours color colors kind kinds type types sort sorts"
)
# Colours that are nothing else.
_PLAIN_COLOURS = word_set(
    "beige black blue brown cyan gray green grey magenta purple red tan teal white yellow"
)
# Names of things that captions mostly use as colours: "orange, on a green background".
COLOUR_NAMES = word_set(
    "amber apricot aqua chestnut chocolate copper coral cream emerald gold ivory khaki lavender "
    "lemon lilac lime maroon mint mustard olive orange peach pink plum rose ruby rust salmon "
    "sapphire silver turquoise violet"
)
_IRREGULAR_PLURALS = {
    "child": "children", "foot": "feet", "goose": "geese", "man": "men", "mouse": "mice",
    "ox": "oxen", "person": "people", "tooth": "teeth", "woman": "women", "knife": "knives",
    "leaf": "leaves", "wolf": "wolves", "calf": "calves", "loaf": "loaves", "shelf": "shelves",
    "wife": "wives", "half": "halves", "cactus": "cacti",
}  # fmt: skip
_IRREGULAR_SINGULARS = {plural: singular for singular, plural in _IRREGULAR_PLURALS.items()}
_ORDINARY = FUNCTION_WORDS | _ORDINARY_WORDS | _PLAIN_COLOURS | word_set(FOREIGN_WORDS)
_NUMERAL = re.compile(r"\d+(?:st|nd|rd|th)|(?:xc|xl|l?x{0,3})(?:ix|iv|v?i{0,3})")  # 1st, xii, xl
# A single character of these scripts is a word.
_WORD_CHARACTER = re.compile(r"[\u3400-\u9fff\uf900-\ufaff\uac00-\ud7af]")


def is_ordinary(word: str) -> bool:
    """Return whether a word (lower case) may stand in the caption of any image: a function word of
    any language, a number, a single letter, a plain colour, "left", "normal", "other".
    """
    if word in _ORDINARY or word.isnumeric() or _NUMERAL.fullmatch(word):
        return bool(word)
    if len(word) == 1 and not word.isalnum():
        return unicodedata.category(word)[0] == "P" or word == "\u2044"  # "c++" is a name, 1⁄2 none
    return len(word) == 1 and not _WORD_CHARACTER.match(word)


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
