"""White space, invisible and control characters in text from outside: captions, names, replies."""

from __future__ import annotations

import re
import unicodedata

# Characters that show nothing though they are letters or symbols: Hangul fillers, blank Braille.
_BLANKS = re.compile("[\u115f\u1160\u2800\u3164\uffa0]")
# Unicode's default-ignorable characters that are not of category Cf, such as variation selectors.
_IGNORABLE = re.compile(
    "[\u034f\u17b4\u17b5\u180b-\u180f\u2065\ufe00-\ufe0f\ufff0-\ufff8\U000e0000-\U000e0fff]"
)


def normalize_whitespace(text: str) -> str:
    """Return text on one line, its words apart by single spaces, without invisible characters.

    White space of every kind (no-break, thin and ideographic spaces, tabs, line and paragraph
    separators) and blank letters become a space. Other control characters stay: they are no white
    space, and whoever judges the text must see them.
    """
    if not text.isascii():
        text = _BLANKS.sub(" ", remove_invisible(text))
    return " ".join(text.split())


def remove_invisible(text: str) -> str:
    """Return text without characters that can hide inside a word: zero-width spaces and joiners,
    soft hyphens, byte order marks, bidirectional marks, variation selectors. Line breaks stay.
    """
    if text.isascii():
        return text
    visible = (letter for letter in text if unicodedata.category(letter) != "Cf")
    return _IGNORABLE.sub("", "".join(visible))


def reason_of(error: BaseException, letters_at_most: int = 300) -> str:
    """Return what an error says, on one line without its full stop; if nothing, its type."""
    return " ".join(str(error).split())[:letters_at_most].rstrip(".") or type(error).__name__


def whole_number(text: str) -> int | None:
    """Return a text of at most 18 decimal digits as an integer, any other text as None.

    `str.isdigit` and `int` disagree on "²", and `int` refuses some thousands of digits.
    """
    text = text.strip()
    return int(text) if text.isdecimal() and len(text) <= 18 else None


def counted(number: int, one: str, many: str) -> str:
    """Return a number with its noun: "1 class", "1,200 classes"."""
    return f"{number:,} {one if number == 1 else many}"


# Colours and movements of the cursor (CSI sequences). Other sequences, such as titles, have no
# fixed end: of them only the control characters go, so that no text can hide what follows it.
_CSI = re.compile("(?:\x1b\\[|\x9b)[0-?]*[ -/]*[@-~]")
# Control characters but tab and line feed, and the marks that turn the direction of text around.
_CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


def remove_control_characters(text: str) -> str:
    """Return text that cannot steer a terminal; tabs and line feeds stay."""
    return _CONTROLS.sub("", _CSI.sub("", text))


def escape_control_characters(text: str) -> str:
    """Return text whose control characters are escapes such as \\u001b; none is lost."""
    return _CONTROLS.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def as_name(name: str, *, letters_at_most: int = 120) -> str:
    """Return the name of a class or file as part of a line: no line breaks, and cut if very long.

    Control characters become escapes such as \\n; a cut name ends in an ellipsis.
    """
    cut = name if len(name) <= letters_at_most else f"{name[: letters_at_most - 1]}…"
    cut = cut.replace("\n", "\\n").replace("\t", "\\t")
    return re.sub("[\x85\u2028\u2029]", lambda found: f"\\u{ord(found[0]):04x}", cut)
