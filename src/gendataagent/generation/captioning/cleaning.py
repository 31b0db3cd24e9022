"""From a captioner's output to words that fit after "A photo of [class], which is ...".

A caption is data: text seen in an image may not steer a language model or break a page, so only
letters, digits and plain punctuation are kept, on one line.
"""

from __future__ import annotations

import re
import unicodedata

from gendataagent.core.text import normalize_whitespace

MAX_WORDS = 40  # with the class name well within the 77 tokens of CLIP's text encoder
LONGEST_LOOP_WORDS = 8
_PUNCTUATION = frozenset(".,;!?'()-&%/+°")
_SPECIAL_TOKEN = re.compile(
    r"<\|[^|<>\n]{0,40}\|>|<{1,2}/?[^<>\n]{0,40}>{1,2}|\[/?(?:INST|CLS|SEP|PAD|UNK|MASK)\]"
)
_DETERMINER = (
    "(?:an?|the|one|two|three|four|five|six|seven|eight|nine|ten|some|several|many|no|[0-9]+)"
)
_PREFIX = re.compile(
    r"(?:(?:this|the) (?:image|picture|photo|photograph) (?:is of|shows|depicts|features)"
    r"|(?:an? |the )?(?:image|picture|photo|photograph) of"
    # only before a noun phrase: "this is how", "there is nothing" stay
    rf"|(?:there (?:is|are)|this is|it is|here is)(?= {_DETERMINER} ))\s+(?=\w)",
    re.IGNORECASE,
)
_ARAFED = re.compile(r"\baraf\w*\s*", re.IGNORECASE)  # a word that BLIP-large makes up
_CANNOT_END = frozenset({"a", "an", "the", "and", "or", "of", "with"})


def clean_caption(raw: str) -> str:
    """Return `raw` as one line of plain words, or "" where nothing is left.

    Special tokens, markup, control and invisible characters, openings such as "a photo of", loops
    of repeated words and an end truncated by the token limit are removed.
    """
    words = _without_loops(_plain(_first_line(raw)).split())[:MAX_WORDS]
    text = _without_opening(" ".join(words))
    while True:
        text = text.rstrip(".,;!?-/&+ ").removesuffix(" (")
        head, _, last = text.rpartition(" ")
        if last.casefold() not in _CANNOT_END:
            break
        text = head
    first, space, rest = text.partition(" ")
    if re.fullmatch(_DETERMINER, first, re.IGNORECASE):
        text = first.lower() + space + rest
    return text if any(letter.isalnum() for letter in text) else ""


def _first_line(raw: str) -> str:
    """Return the first line that says something; "Here is a description:" does not."""
    lines = [line.strip() for line in _SPECIAL_TOKEN.sub(" ", raw).splitlines()]
    said = [line for line in lines if line]
    return next((line for line in said if not line.endswith(":")), said[0] if said else "")


def _plain(line: str) -> str:
    """Return the line reduced to letters, marks, digits and plain punctuation."""
    kept = []
    for letter in normalize_whitespace(unicodedata.normalize("NFKC", line)).replace("’", "'"):
        category = unicodedata.category(letter)
        if category[0] in "LMN" or letter in _PUNCTUATION:
            kept.append(letter)
        else:
            kept.append("-" if category == "Pd" else " ")
    text = re.sub(r"\s+([.,;!?)])", r"\1", " ".join("".join(kept).split()))
    text = re.sub(r"([.,;!?])[.,;!?]+", r"\1", text)
    return _ARAFED.sub("", text).strip(" .,;!?-/&+'")


def _without_opening(text: str) -> str:
    while (found := _PREFIX.match(text)) is not None:
        text = text[found.end() :]
    return text


def _without_loops(words: list[str]) -> list[str]:
    """Return the words with consecutive repeats of up to `LONGEST_LOOP_WORDS` words removed."""
    bare = [word.strip(".,;!?").casefold() for word in words]
    for length in range(1, LONGEST_LOOP_WORDS + 1):
        start = 0
        while start + 2 * length <= len(words):
            middle, end = start + length, start + 2 * length
            if bare[start:middle] == bare[middle:end]:
                del words[start:middle], bare[start:middle]
            else:
                start += 1
    return words
