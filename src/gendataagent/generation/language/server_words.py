"""What a server says in an error, as one short line: JSON of every form, plain text, web pages."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from gendataagent.core.secrets import shown

_LETTERS_AT_MOST = 200
_KEYS = (
    "error", "errors", "message", "msg", "detail", "details", "reason", "error_description",
    "title", "description",
)  # fmt: skip
_DEEPEST = 6
_PAGE_LETTERS_AT_MOST = 20_000  # the time for patterns grows with the square of them
_PAGE = re.compile(r"<(?:!doctype|html|head|body|title|h1)\b", re.I)
_UNSEEN = re.compile(r"<(script|style)\b.*?</\1\s*>", re.S | re.I)
_TITLE = re.compile(r"<(title|h1)\b[^>]*>(.*?)</\1\s*>", re.S | re.I)
_TAG = re.compile(r"<[^<>]*>")


def words_of_error(body: bytes) -> str:
    """Return what a response's body says, as one line without secrets and control characters; ""
    where it says nothing.
    """
    text = body[:100_000].decode("utf-8", errors="replace")
    try:
        said = "; ".join(dict.fromkeys(_strings(json.loads(text), _DEEPEST)))
    except (ValueError, RecursionError):
        said = _of_page(text[:_PAGE_LETTERS_AT_MOST]) if _PAGE.search(text) else text
    line = " ".join(shown(" ".join(said.split())).split())
    return line[:_LETTERS_AT_MOST].rstrip(". ")


def named_in_error(body: bytes) -> str:
    """Return everything an error's body says, to find the name of a parameter in it."""
    return body[:20_000].decode("utf-8", errors="replace")


def parameter_of_error(body: bytes) -> str:
    """Return the parameter an error's own field names (`param`, or the end of `loc`), else ""."""
    try:
        return next(_parameters(json.loads(body), _DEEPEST), "")
    except (ValueError, RecursionError):
        return ""


def _strings(said: Any, depth: int) -> Iterator[str]:
    if isinstance(said, str):
        if said.strip():
            yield said.strip()
    elif isinstance(said, list) and depth:
        for entry in said[:5]:
            yield from _strings(entry, depth - 1)
    elif isinstance(said, dict) and depth:
        place = said.get("loc")
        where = ".".join(map(str, place)) if isinstance(place, list) else ""
        for key in _KEYS:
            for text in _strings(said.get(key), depth - 1):
                yield f"{where}: {text}" if where else text


def _parameters(said: Any, depth: int) -> Iterator[str]:
    if isinstance(said, dict) and depth:
        if isinstance(said.get("param"), str):
            yield said["param"]
        if isinstance(said.get("loc"), list) and said["loc"]:
            yield str(said["loc"][-1])
        for entry in said.values():
            yield from _parameters(entry, depth - 1)
    elif isinstance(said, list) and depth:
        for entry in said[:20]:
            yield from _parameters(entry, depth - 1)


def _of_page(text: str) -> str:
    """Return the title of a web page, else its text."""
    text = _UNSEEN.sub(" ", text)
    titles = [" ".join(_TAG.sub(" ", match[2]).split()) for match in _TITLE.finditer(text)]
    return "; ".join(dict.fromkeys(filter(None, titles))) or _TAG.sub(" ", text)
