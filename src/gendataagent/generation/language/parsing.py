"""A language model's answer, split into single rewrites."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass

from gendataagent.core.text import normalize_whitespace, remove_invisible
from gendataagent.generation.language.conversation import CHANGES
from gendataagent.generation.language.layouts import as_lines
from gendataagent.generation.language.listed_json import captions_in_json
from gendataagent.generation.language.reasoning import without_reasoning

# More is no list of captions; patterns are then never tried on more.
CHARACTERS_READ = 100_000  # of an answer, from its end
LINE_CHARACTERS_READ = 1_000

_FENCE = re.compile(r"^[ \t]{0,20}(?:```|~~~)\w{0,20}[ \t]{0,20}$", re.M)
_ONLY_A_TAG = re.compile(r"\s*</?[\w:-]+>\s*")
_RULE = re.compile(r"[\W_]*")
_NUMBER_ALONE = re.compile(  # "Rewrite 1", "--- 1 ---" above a caption
    r"\s*(?:-{2,}\s*#?\d{1,3}\s*-{2,}|(?:caption|rewrite|version|option|variant|variation)\s#?\d{1,3})\s*",
    re.I,
)
_BOLD = re.compile(r"(\*\*|__|~~)(?=\S)(.{1,400}?)(?<=\S)\1")
_ITALIC = re.compile(r"(?<![\w*])\*(?=[^\s*])([^*\n]{1,400}?)(?<=\S)\*(?![\w*])")
_CHINESE_NUMBER = re.compile(r"[一二三四五六七八九十]{1,3}")
# 1, 1/3, 一, iv, a
_NUMBER = rf"(?:\d{{1,3}}(?:\s?/\s?\d{{1,3}})?|{_CHINESE_NUMBER.pattern}|[ivx]{{1,4}}|[^\W\d_])"
_AFTER_A_NUMBER = r"(?:[.):\]。、।】〉》]|\u20e3)"
# of lists in Latin, Greek, Cyrillic, Hebrew, Arabic, Korean, Japanese
_FIRST_LETTERS = frozenset("aiαаאاأ가ㄱアあ")
# "1.", "(2)", "[3]", "4)", "a)", "第一、", "#1:", "Caption 2:", "No. 3 -"; "3.5 inches" is none.
_NUMBERED = re.compile(
    r"(?:#+\s*|>\s*)*(?:[(\[【〈《第]\s*)?"
    r"(?P<word>(?:no|nr|number|caption|rewrite|rewritten caption|version|option|variant|variation|"
    r"answer|item|photo|image|change|example|output|result|sentence|line|entry|step)\b\.?\s*#?\s*)?"
    rf"(?P<number>{_NUMBER})(?:\s?{_AFTER_A_NUMBER})+(?![\d,])(?P<space>\s*)(?P<text>.*)",
    re.I | re.S,
)
_NUMBER_AND_DASH = re.compile(
    r"#?(?P<number>\d{1,3})(?:\s+(?:[-–—|=]+>?|to)|[-–—])\s+(?P<text>.*)", re.S
)
_HASH_NUMBER = re.compile(r"#(?P<number>\d{1,3})\s+(?P<text>.*)", re.S)
_TABLE_ROW = re.compile(r"\|\s*(?P<number>\d{1,3})\s*\|(?P<text>.*?)\|?\s*", re.S)
_TASK_BOX = re.compile(r"\[[ xX✓]?\]\s+")
_CHANGE_WORDS = "|".join(re.escape(change) for change in CHANGES)
_LABEL_WORDS = (
    rf"(?:(?:the |changed? |new |change of |change the |different )*(?:{_CHANGE_WORDS}|caption|"
    r"rewrite|rewritten(?: caption)?|rewritten version|version|answer|output|result|lighting|"
    r"perspective|angle|viewpoint|setting|location|time|scene))"
)
_LABEL = re.compile(
    rf"{_LABEL_WORDS}\s*(?:\d{{1,3}}\s*)?(?:[:：]|\s[-–—]+>?)\s*(?=\S)"
    rf"|[(\[]\s*{_LABEL_WORDS}\s*[)\]]\s*[:：-]?\s*(?=\S)"
    r"|(?![\x00-\x7f])[^\W\d_][^\x00-\x7f]{0,12}\s?[:：]\s*(?=\S)",  # in another script
    re.I,
)
_ANY_LABEL = re.compile(
    r"(?!(?:an?|the|two|one)\b)[^\W\d_][\w'’/() -]{0,40}?\s*[:：]\s+(?=\S)", re.I
)
_ONLY_A_LABEL = re.compile(rf"(?:{_LABEL_WORDS}|[^\W\d_][\w'’ -]{{0,30}}\s*[:：])\s*:?", re.I)
_HEADING_MARK = re.compile(r"^[ \t]{0,8}(?:#{1,6}[ \t]+|(?=\*\*[^*\n]{1,60}\*\*:?[ \t]*$)\*\*)")
_TITLE = re.compile(
    rf"{_LABEL_WORDS}(?:\s*#?\d{{1,3}})?|(?:option|variant|variation|image|photo)\s*#?\d{{1,3}}"
    r"|(?:rewritten |new )?captions?",
    re.I,
)
# "Change: light" above "Caption: a dog": what an entry is made from, and what it is
_MADE_FROM = re.compile(
    r"(?:original(?: caption)?|before|input|source|old(?: caption)?|photo of|change[ds]?|aspect|"
    r"type|id|index|number|modification|class)\s*[:：]",
    re.I,
)
_MADE = re.compile(
    r"(?:(?:re-?written|new|modified|updated|changed|final|revised)(?: caption| version| text)?|"
    r"rewrite|caption|after|output|result|text|description|prompt)\s*[:：]\s*(?=\S)",
    re.I,
)
_QUOTED_LABEL = re.compile(r"[\w ]{1,30}(?:[\"'”]\s*[:：]|=)\s*[\"'“](?=\S)")
_TALKED_ABOUT = re.compile(
    r"(?P<text>[^\"“”]{3,})[\"”]\s*(?:[:：(]|[-–—]\s)\s*(?![\"“\s]).*"
)  # "a dog": light
_BULLET = re.compile(r"(?:[-=]+>|[→⇒•·‣∙➤]|#\.|\[\*\])\s*(?=\w)|-(?=[^\W\d_])")
_GOES_ON = re.compile(r"[ \t]{2,}[a-z][^:：]*")  # a line that is wrapped
_NOTE_AT_THE_END = re.compile(
    rf"\s*[(\[](?:[^()\[\]]{{0,30}}\b)?(?:{_CHANGE_WORDS}|changed?|lighting|perspective)\b"
    r"[^()\[\]]{0,60}[)\]]\s*\.?$",
    re.I,
)
_ARROW = re.compile(r"\s(?:→|⇒|➜|-+>|=+>)\s")
_QUOTES = "\"'“”‘’«»„‚‹›「」『』《》`*_~ \t"
_CIRCLED = re.compile(r"^\s*([\u2460-\u24ff\u2776-\u2793\u3200-\u33ff\U0001f100-\U0001f10c])\s*")


@dataclass(frozen=True, slots=True)
class _Item:
    """A line of an answer: its number or letter if it has one, whether it is marked as an item at
    all, and its text.
    """

    number: int | None
    letter: str
    marked: bool
    text: str


def replies_of(answer: str) -> list[str]:
    """Return the rewrites in an answer, in order.

    It may be JSON (see `listed_json`), numbered or bulleted lines in any script, else every line is
    a rewrite. Where some lines are numbered the others are talk around them and are left out; where
    the numbers start again, only the last list counts. Thoughts are cut off (see `reasoning`).
    Labels ("Light: ..."), emphasis and quotation marks around a line are removed; its inside is
    left to the validator. Compatibility forms (full-width letters) are folded and white space is
    normalised.
    """
    text = _FENCE.sub("", without_reasoning(_lines_of(answer))).strip()
    listed = captions_in_json(text)
    if listed is not None:
        if len(listed) == 1 and "\n" in listed[0].strip():  # all of them, in one string
            return replies_of(listed[0])
        return [_bare(caption) for caption in listed if caption.strip()]
    lines = [line for line in as_lines(text).splitlines() if _says_something(line)]
    lines = _entries(lines)
    items = [_item(line, letters=True) for line in lines]
    letters = [item.letter for item in items if item.letter]
    if letters and (letters[0] not in _FIRST_LETTERS or len(set(letters)) < 2):  # "T. rex"
        items = [_item(line, letters=False) for line in lines]
    chosen = list(_numbered(items)) or [item.text for item in items if item.marked]
    if not any(map(_bare, chosen)):
        chosen = [item.text for item in items if not item.text.endswith((":", "："))]
        chosen = chosen or [item.text for item in items]
    bare = map(_bare, chosen)
    return [reply for reply in bare if reply] if len(chosen) > 1 else list(map(_bare, chosen))


def without_cut_end(answer: str) -> str:
    """Return an answer that was cut off by its token limit without its unfinished last line.

    Of JSON the complete strings are read anyway, so it is returned as it is.
    """
    if without_reasoning(_lines_of(answer)).lstrip().startswith(("[", "{", "```")):
        return answer
    start, line_break, _ = answer.rstrip("\r\n").rpartition("\n")
    return start if line_break else ""


def _lines_of(answer: str) -> str:
    """Return the part of an answer that is read, without empty lines."""
    lines = re.split(r"[\r\n]+", remove_invisible(answer[-CHARACTERS_READ:]))
    return "\n".join(line for line in lines if line.strip())


def _says_something(line: str) -> bool:
    if _RULE.fullmatch(line) or _ONLY_A_TAG.fullmatch(line) or _NUMBER_ALONE.fullmatch(line):
        return False
    heading = _HEADING_MARK.sub("", line, count=1)
    return heading == line or not _TITLE.fullmatch(heading.strip(" *_:"))


def _entries(lines: list[str]) -> list[str]:
    """Return lines in which an entry of several labelled lines is its caption alone.

    "1. Original: a dog" and "   Rewritten: a dog at dusk" become "1. Rewritten: a dog at dusk".
    """
    entries: list[str] = []
    marked = False
    of_entry: str | None = None  # the number or bullet of one whose caption is still to come
    for line in lines:
        item = _item(line, letters=False)
        if marked and of_entry is None and not item.marked and _GOES_ON.fullmatch(line):
            entries[-1] += f" {line.strip()}"
            continue
        marked = item.marked
        if item.marked or of_entry is None:
            made_from = item.marked and _MADE_FROM.match(item.text.lstrip(_QUOTES))
            mark = f"{item.number}. " if item.number is not None else "- "
            of_entry = mark if made_from else None
            entries.append(line)
        elif _MADE.match(item.text.lstrip(_QUOTES)):
            entries[-1], of_entry = of_entry + item.text, None
        elif not _MADE_FROM.match(item.text.lstrip(_QUOTES)):
            entries.append(line)
    return entries


def _item(line: str, *, letters: bool) -> _Item:
    """Return a line without its number or bullet.

    Args:
        letters: "a. text" is an item too.
    """
    text, number, letter, marked = _plain(line[:LINE_CHARACTERS_READ]), None, "", False
    for _ in range(3):  # "- 1. text", "**1.** text", "1. [ ] text"
        if box := _TASK_BOX.match(text):
            text = text[box.end() :]
        elif number is None and (match := _number_at_start(text, letters=letters)):
            number = _value(match["number"])
            if match["number"].isalpha() and not match.groupdict().get("word"):
                letter = match["number"].casefold()
            marked, text = True, match["text"].strip()
        elif (bullet := _without_bullet(text)) is not None:
            marked, text = True, bullet
        else:
            break
    return _Item(number, letter, marked, text)


def _plain(line: str) -> str:
    """Return a line with compatibility forms folded, without emphasis."""
    line = _CIRCLED.sub(lambda found: f"{_numeric(found[1])}. ", line)
    line = normalize_whitespace(unicodedata.normalize("NFKC", line))
    line = _BOLD.sub(r"\2", line)
    return _ITALIC.sub(r"\1", line)


def _numeric(letter: str) -> str:
    digits = re.sub(r"\D", "", unicodedata.normalize("NFKC", letter))
    value = unicodedata.numeric(letter, -1)
    return str(int(value)) if value >= 0 else digits or "0"


def _number_at_start(text: str, *, letters: bool) -> re.Match[str] | None:
    text = text.lstrip(_QUOTES) if text[:1] in _QUOTES else text
    match = _NUMBERED.fullmatch(text)
    if match is not None:
        number = match["number"]
        if not number.isalpha() or _CHINESE_NUMBER.fullmatch(number) or match["word"]:
            return match
        return match if letters and (match["space"] or not match["text"]) else None
    for pattern in (_NUMBER_AND_DASH, _HASH_NUMBER, _TABLE_ROW):
        if (match := pattern.fullmatch(text)) is not None:
            return match
    return None


def _value(number: str) -> int:
    digits = re.match(r"\d+", number)
    return int(digits[0]) if digits else 0


def _without_bullet(text: str) -> str | None:
    """Return the text after a bullet: a symbol or dash, and a space unless it is none else."""
    if match := _BULLET.match(text):
        return text[match.end() :].strip()
    if len(text) < 3 or not text[1].isspace():
        return None
    bullet = text[0] in "*•·‣⁃∙>+" or unicodedata.category(text[0]) in {"So", "Sm", "Pd"}
    return text[2:].strip() if bullet else None


def _numbered(items: list[_Item]) -> Iterator[str]:
    """Yield the texts of the last numbered list, an empty one completed by the line after it."""
    last, before = 0, 0
    for position, item in enumerate(items):
        if item.number is not None:
            if item.number == 1 and before > 1:
                last = position
            before = item.number
    waiting = False
    for item in items[last:]:
        if item.number is not None:
            waiting = not _RULE.fullmatch(item.text) and bool(_ONLY_A_LABEL.fullmatch(item.text))
            waiting = waiting or not item.text
            if not waiting:
                yield item.text
        elif waiting and not _ONLY_A_LABEL.fullmatch(item.text):
            yield item.text
            waiting = False


def _bare(text: str) -> str:
    """Return a reply without labels, quotation marks, emphasis and a note about the change."""
    text, before = _plain(text[:LINE_CHARACTERS_READ]), None
    while before != text:
        before = text
        text = _NOTE_AT_THE_END.sub("", text.strip(_QUOTES)).strip(_QUOTES)
        text = _ARROW.split(text)[-1]
        if quoted := _TALKED_ABOUT.fullmatch(text):
            text = quoted["text"]
        match = _LABEL.match(text) or _ANY_LABEL.match(text) or _QUOTED_LABEL.match(text)
        text = text[match.end() :] if match else text
    return text
