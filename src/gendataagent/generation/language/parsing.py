"""A language model's answer, split into single rewrites."""

from __future__ import annotations

import json
import re

from gendataagent.core.text import normalize_whitespace, remove_invisible

_THOUGHT = re.compile(r"<think(?:ing)?>.*?(?:</think(?:ing)?>|\Z)", re.S | re.I)
_FENCE = re.compile(r"^\s*```\w*\s*$", re.M)
_ITEM = re.compile(r"^\s*(?:\(?(\d{1,3})\s*[.):\]]+|[-*•–])\s*(.*)$")
_QUOTES = "\"'“”‘’«»„`*_ \t"


def replies_of(answer: str) -> list[str]:
    """Return the rewrites in an answer, in order.

    It may be a JSON list of strings (alone, in a fence, or as the only list in an object), numbered
    or bulleted lines, else every line is a rewrite. Where some lines are numbered the others are
    talk around them and are left out. Reasoning between think tags is dropped, and quotation marks
    and emphasis around a line are removed; the inside of a line is left to the validator. White
    space is normalised.
    """
    text = _FENCE.sub("", _THOUGHT.sub("", remove_invisible(answer))).strip()
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
    except (ValueError, RecursionError):  # truncated, or nested until the stack overflows
        return None
    if isinstance(value, dict):
        lists = [entry for entry in value.values() if isinstance(entry, list)]
        value = lists[0] if len(lists) == 1 else None
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        return None
    return value


def _bare(line: str) -> str:
    return normalize_whitespace(line).strip(_QUOTES)
