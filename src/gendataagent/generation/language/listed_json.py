"""Captions in a JSON answer: lists of strings or of objects, cut off or with talk around them."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from typing import Any

# Keys under which a caption is found, and those that hold several; the first present one is read.
_CAPTION_KEYS = (
    "rewritten_caption", "new_caption", "rewritten", "rewrite", "caption", "text", "sentence",
    "description", "prompt", "content", "result", "output", "value", "answer",
)  # fmt: skip
_LIST_KEYS = (
    "rewrites", "rewritten_captions", "new_captions", "captions", "results", "items", "answers",
    "list", "output", "data",
)  # fmt: skip
_START = re.compile(r"^[ \t]*(?=[\[{])", re.M)
_STARTS_AT_MOST = 20
_DEEPEST = 6
# A complete string of a text that is cut off, with its key if it has one.
_STRING = re.compile(
    r'(?:"(?P<key>[^"\\\n]{1,60})"\s*:\s*)?(?P<string>"(?:[^"\\\n]|\\.)*")(?!\s*:)'
)
_LOOKS_LIKE_JSON = re.compile(r'\s*(?:\[\s*(?:["{\[]|\Z)|\{\s*(?:"|\Z))')


def captions_in_json(text: str) -> list[str] | None:
    """Return the captions of a JSON text, None where there is no JSON.

    The text may be one value, several (one a line), the only value between lines of talk, a list as
    Python writes it, or cut off at its end: then its complete strings count.
    """
    found = [value for value in _values(text) if isinstance(value, (list, dict))]
    captions = [caption for value in found for caption in _captions(value, _DEEPEST)]
    if captions or (found and text.strip() in ("[]", "{}")):
        return captions
    if _LOOKS_LIKE_JSON.match(text):
        return _complete_strings(text)
    return None


def _values(text: str) -> Iterator[Any]:
    """Yield the JSON values that begin at the start of a line, those inside others left out."""
    decoder, end = json.JSONDecoder(), 0
    for number, match in enumerate(_START.finditer(text)):
        if match.end() < end or number >= _STARTS_AT_MOST:
            continue
        try:
            value, end = decoder.raw_decode(text, match.end())
        except (ValueError, RecursionError):  # cut off, or nested until the stack overflows
            value = _python_value(text[match.end() :]) if not end else None
            end = len(text) if value is not None else end
        yield value


def _python_value(text: str) -> Any:
    """Return a list or dict as Python writes it, or JSON with a comma too many; None for others."""
    text = text.strip()
    if len(text) > 20_000:
        return None
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError, TypeError):
        return None


def _captions(value: Any, depth: int) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, list) and depth:
        for item in value:
            yield from _captions(item, depth - 1)
    elif isinstance(value, dict) and depth:
        yield from _captions_of_object(value, depth - 1)


def _captions_of_object(value: dict[Any, Any], depth: int) -> Iterator[str]:
    keyed = {str(key).casefold().replace(" ", "_").replace("-", "_"): v for key, v in value.items()}
    lists = [entry for entry in keyed.values() if isinstance(entry, (list, dict)) and entry]
    for key in _LIST_KEYS:
        if isinstance(keyed.get(key), (list, dict)):
            yield from _captions(keyed[key], depth)
            return
    if lists:
        yield from _captions(max(lists, key=len), depth)
        return
    for key in _CAPTION_KEYS:
        if isinstance(keyed.get(key), str):
            yield keyed[key]
            return
    # {"1": "...", "2": "..."} or {"light": "...", "view": "..."}
    yield from (entry for entry in keyed.values() if isinstance(entry, str))


def _complete_strings(text: str) -> list[str] | None:
    """Return the captions among the complete strings of a text that is cut off."""
    strings = [(m["key"], m["string"]) for m in _STRING.finditer(text)]
    keys = {str(key).casefold() for key, _ in strings if key}
    wanted = next((key for key in _CAPTION_KEYS if key in keys), None)
    if wanted is not None:
        strings = [(key, string) for key, string in strings if (key or "").casefold() == wanted]
    captions = []
    for _, string in strings:
        try:
            captions.append(str(json.loads(string)))
        except ValueError:
            continue
    return captions or None
