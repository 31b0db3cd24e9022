"""Words of a caption as the validator compares them: English rules, harmless elsewhere."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter

from gendataagent.generation.english import FUNCTION_WORDS, singular, word_set

_WORD = re.compile(r"[\u0e00-\u0e7f\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]|\w+(?:['’]\w+)?")

# Where the first noun phrase of a caption ends.
_BREAKS = FUNCTION_WORDS - {"a", "an", "the", "some", "one", "another", "his", "her", "their"}
# "a close up of a flower", "a group of dogs": the subject comes after "of".
_VIEWS = word_set(
    "bunch closeup close group image pair photo photograph picture plate bowl couple set shot "
    "view variety row lot piece portrait kind type"
)
# Function words that give another language away; none is a word of the others or of English.
_OF_LANGUAGE = {
    "French": "le la les une des est avec dans sur qui aux du et",
    "German": "der das ein eine einer einem ist auf mit und im dem den von",
    "Spanish": "el los las una con sobre del y es que por",
    "Italian": "il gli una con della sul nel che è di",
    "Portuguese": "uma com não em na nos sobre ao de",
    "Dutch": "het een met op van bij naar en",
}


def words_of(text: str) -> list[str]:
    """Return the words of a text in lower case; a Chinese, Japanese or Thai character is one."""
    return _WORD.findall(unicodedata.normalize("NFKC", text).casefold())


def content_words(text: str) -> set[str]:
    """Return the words that say something about the image, in the singular."""
    return {singular(_stem(word)) for word in words_of(text) if word not in FUNCTION_WORDS}


def _stem(word: str) -> str:
    return re.sub(r"['’]s$", "", word)


def same_words(text: str) -> tuple[str, ...]:
    """Return the words without articles: equal for texts that differ only in case, punctuation
    and articles.
    """
    return tuple(word for word in words_of(text) if word not in {"a", "an", "the"})


def subject_of(caption: str) -> str | None:
    """Return the noun (singular) a caption is about, by position: the last word before the first
    break of its first noun phrase ("a small brown dog sitting on grass" -> "dog"). None if it has
    none.
    """
    first = re.split(r"[,;:.!?]", caption, maxsplit=1)[0]
    phrase: list[str] = []
    for word in words_of(first):
        if word == "of" and _VIEWS & set(phrase):
            phrase = []
        elif word == "up" and phrase == ["close"]:
            continue
        elif re.search(r"['’]s$", word):  # "the dog's face" is about the dog
            return singular(_stem(word))
        elif word in _BREAKS or (phrase and word.endswith("ing") and len(word) > 4):
            break
        elif word not in FUNCTION_WORDS:
            phrase.append(singular(_stem(word)))
    return phrase[-1] if phrase else None


def scripts_of(text: str) -> Counter[str]:
    """Return how many letters of each script a text has, by the first word of their names.

    Chinese and Japanese characters count as one script, since Japanese mixes them.
    """
    names = (unicodedata.name(c, "OTHER").split()[0] for c in text if c.isalpha())
    return Counter("CJK" if n in {"HIRAGANA", "KATAKANA"} else n for n in names)


def other_language(reply: str, caption: str) -> str | None:
    """Return the language a reply has slipped into, or None: it has at least two function words
    of that language, and the caption has none.
    """
    said, known = set(words_of(reply)), set(words_of(caption))
    for language, words in _OF_LANGUAGE.items():
        clues = set(words.split())
        if len(clues & said) >= 2 and not clues & known:
            return language
    return None
