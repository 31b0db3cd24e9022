"""A model's answer, taken apart into single rewrites."""

from __future__ import annotations

import json
import re

_THOUGHT = re.compile(r"<think(?:ing)?>.*?(?:</think(?:ing)?>|\Z)", re.S | re.I)
_FENCE = re.compile(r"^\s*```\w*\s*$", re.M)
_ITEM = re.compile(r"^\s*(?:\(?(\d{1,3})\s*[.):\]]+|[-*•–])\s*(.*)$")
_QUOTES = "\"'“”‘’«»„`*_ \t"


def replies_of(answer: str) -> list[str]:
    """Return the rewrites in an answer, in order, as they were written.

    Read are: a JSON list of strings (alone, in a fence, or as the only list in an object), numbered
    or bulleted lines, else every line. Where some lines are numbered the others are talk around
    them and are left out. Reasoning between think tags is dropped. Quotation marks and emphasis
    around a whole line go; what is inside a line is the guard's business.
    """
    text = _FENCE.sub("", _THOUGHT.sub("", answer)).strip()
    listed = _json_list(text)
    if listed is not None:
        return [_bare(item) for item in listed]
    lines = [line for line in text.splitlines() if line.strip()]
    items = [match.group(2) for line in lines if (match := _ITEM.match(line))]
    return [_bare(line) for line in (items or lines)]


def _json_list(text: str) -> list[str] | None:
    if not text.startswith(("[", "{")):
        return None
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):  # cut off, or nested to exhaust the stack
        return None
    if isinstance(value, dict):
        lists = [entry for entry in value.values() if isinstance(entry, list)]
        value = lists[0] if len(lists) == 1 else None
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        return None
    return value


def _bare(line: str) -> str:
    return line.strip().strip(_QUOTES)
