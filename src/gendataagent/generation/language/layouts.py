"""Captions laid out as tables, elements of HTML or XML, LaTeX or CSV: turned into plain lines."""

from __future__ import annotations

import html
import re
import unicodedata

_INLINE = "b|strong|i|em|u|s|span|small|mark|code|a|font|q|cite|kbd|tt|sub|sup"
_INLINE_TAG = re.compile(rf"</?(?:{_INLINE})(?:\s[^<>\n]{{0,80}})?>", re.I)
_STRUCK = re.compile(r"~~(?=\S)[^~\n]{1,200}~~(?=\s*\S)|<(del|strike)>[^<>\n]{0,200}</\1>", re.I)
_TABLE_TAG = re.compile(r"</?table\b[^<>\n]{0,80}>", re.I)
_CELL_TAG = re.compile(r"<t[dh]\b[^<>\n]{0,80}>", re.I)
_ANY_TAG = re.compile(
    r"</?[a-z0-9][\w:.-]{0,40}(?:\s[^<>\n]{0,80})?/?>|<!doctype[^<>\n]{0,80}>", re.I
)
_RULE_OF_TABLE = re.compile(r"\s*\|?(?:\s*:?-{2,}:?\s*\|)+(?:\s*:?-{2,}:?\s*)?\|?\s*")
_CAPTION_COLUMN = re.compile(r"caption|rewrit|text|prompt|description|sentence|new|result", re.I)
_BEFORE_COLUMN = re.compile(r"original|before|old|source|number|change", re.I)
_LATEX = re.compile(r"^[ \t]*\\(?:begin|end)\{[^{}\n]{1,40}\}[ \t]*$", re.M)
_LATEX_ITEM = re.compile(r"^[ \t]*\\item(?:\[[^\[\]\n]{0,20}\])?[ \t]*", re.M)
_ESCAPED_MARK = re.compile(r"\\(?=[.)\]*_#-])")
_CSV_ROW = re.compile(r'^[ \t]*(\d{1,3})(?:\t+|,[ \t]*(?="))', re.M)
_ESCAPED_BREAK = re.compile(r"\\r?\\?n")
_INLINE_NUMBER = re.compile(r"(?:(?<=\s)|\A)\(?(\d{1,2})[.)]\s+")
# "1 a dog", "1 of 3: a dog", "1번: a dog", "¹ a dog": numbers only where they count the lines
_COUNTED_LINE = re.compile(
    r"^[ \t]*(\d{1,2}|[¹²³⁴-⁹])(?:\s+of\s+\d{1,2}\b|번째?|つ目)?(?:\s*[:：]|(?=\s))\s*(?=\S)", re.M
)
_ORDINALS = (
    ("first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth"),
    ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"),
    ("1st", "2nd", "3rd", "4th", "5th", "6th", "7th", "8th", "9th", "10th"),
)
_ORDINAL = re.compile(
    rf"^[ \t]*[*_]{{0,2}}({'|'.join(word for words in _ORDINALS for word in words)})(?:[:.)]|,)"
    r"[*_]{0,2}[ \t]+",
    re.I | re.M,
)
# What models add after the list: not a list of captions, though it may be numbered.
_AFTERWORD = re.compile(
    r"^[^\w\n]{0,8}(?:(?:self[- ]?)?check(?:s|ed|list)?|verification|notes?|explanations?|"
    r"changes(?: made)?|what (?:i )?changed|summary|justifications?|rationale)\b[^\n\w]{0,8}$",
    re.I | re.M,
)
_NUMBERED_LINE = re.compile(r"^[^\w\n]{0,8}\d{1,3}[^\w\s]", re.M)


def as_lines(text: str) -> str:
    """Return text with one caption a line, where its layout is one of those of this module; other
    text comes back unchanged.
    """
    text = _unescaped(text)
    text = _STRUCK.sub("", text)
    text = _without_elements(text)
    text = _without_tables(text)
    text = _LATEX_ITEM.sub("- ", _LATEX.sub("", text))
    text = _CSV_ROW.sub(r"\1. ", _ESCAPED_MARK.sub("", text))
    text = _without_afterword(text)
    return _ordinals_as_numbers(_counted_as_numbers(_one_line_each(text)))


def _unescaped(text: str) -> str:
    """Return text of one line that has its line breaks written out as two characters, with them."""
    if "\n" not in text.strip() and len(re.findall(r"\\n\s*(?:\d|[-*•])", text)) > 0:
        return _ESCAPED_BREAK.sub("\n", text)
    return text


def _without_elements(text: str) -> str:
    """Return HTML or XML as lines: rows of tables as rows of Markdown, other blocks as lines."""
    if not _ANY_TAG.search(text):
        return html.unescape(text) if re.search(r"&(?:quot|amp|#39|lt|gt|nbsp);", text) else text
    parts = _TABLE_TAG.split(text)
    text = "\n".join(_rows_of_table(part) if _CELL_TAG.search(part) else part for part in parts)
    return html.unescape(_ANY_TAG.sub("\n", _INLINE_TAG.sub("", text)))


def _rows_of_table(table: str) -> str:
    rows = []
    for row in re.split(r"</?tr\b[^<>\n]{0,80}>", table, flags=re.I):
        cells = _CELL_TAG.split(row)[1:]
        if cells:
            bare = (" ".join(_ANY_TAG.sub(" ", cell).split()) for cell in cells)
            rows.append(f"| {' | '.join(bare)} |")
            if re.search(r"<th\b", row, re.I) and len(rows) == 1:
                rows.append("|" + "---|" * len(cells))
    return "\n" + "\n".join(rows) + "\n"


def _without_tables(text: str) -> str:
    """Return text with each table of Markdown as the lines of its column of captions."""
    lines, kept, position = text.split("\n"), [], 0
    while position < len(lines):
        rows = []
        while position < len(lines) and "|" in lines[position]:
            rows.append(lines[position])
            position += 1
        if len(rows) >= 2:
            kept += _captions_of_rows(rows)
        else:
            kept += rows
        if position < len(lines):
            kept.append(lines[position])
            position += 1
    return "\n".join(kept)


def _captions_of_rows(rows: list[str]) -> list[str]:
    header: list[str] = []
    cells: list[list[str]] = []
    for row in rows:
        if _RULE_OF_TABLE.fullmatch(row):
            header = cells.pop() if len(cells) == 1 else header
        else:
            cells.append([cell.strip() for cell in row.strip().strip("|").split("|")])
    columns = min(map(len, cells), default=0)
    if not columns:
        return rows
    named = [
        number
        for number, title in enumerate(header[:columns])
        if _CAPTION_COLUMN.search(title) and not _BEFORE_COLUMN.search(title)
    ]
    # else the one with the longest texts
    column = named[0] if named else max(
        range(columns), key=lambda number: sum(len(row[number]) for row in cells)
    )  # fmt: skip
    return [f"{number}. {row[column]}" for number, row in enumerate(cells, 1)]


def _without_afterword(text: str) -> str:
    """Return text up to a heading such as "Check:" that follows a numbered list."""
    first = _NUMBERED_LINE.search(text)
    heading = _AFTERWORD.search(text, first.end()) if first else None
    return text[: heading.start()] if heading else text


def _one_line_each(text: str) -> str:
    """Return "1. ... 2. ... 3. ..." on one line as a line for each."""
    if "\n" in text.strip():
        return text
    numbers = [int(match[1]) for match in _INLINE_NUMBER.finditer(text)]
    if len(numbers) < 2 or numbers != list(range(1, len(numbers) + 1)):
        return text
    return re.sub(r"[,;] ?\n", "\n", _INLINE_NUMBER.sub(r"\n\1. ", text))


def _counted_as_numbers(text: str) -> str:
    """Return lines that all begin with their number, and no mark after it, numbered."""
    numbers = [unicodedata.digit(match[1][-1]) for match in _COUNTED_LINE.finditer(text)]
    lines = len(text.strip().split("\n"))
    if len(numbers) < 2 or numbers != [number % 10 for number in range(1, lines + 1)]:
        return text
    return _COUNTED_LINE.sub(lambda match: f"{unicodedata.normalize('NFKC', match[1])}. ", text)


def _ordinals_as_numbers(text: str) -> str:
    """Return lines that begin with "First:", "Second," or "1st." numbered, if they are a list."""
    words = [match[1].casefold() for match in _ORDINAL.finditer(text)]
    if len(words) < 2 or not any(words == list(kind[: len(words)]) for kind in _ORDINALS):
        return text
    numbers = iter(range(1, len(words) + 1))
    return _ORDINAL.sub(lambda _: f"{next(numbers)}. ", text)
