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
# Keys of what a caption was made from, or of talk about it.
_OTHER_KEYS = re.compile(
    r"(?:original|old|source|input|before)(?:_\w{1,20})?|change[ds]?|change_\w{1,20}|id|index|number|"
    r"aspect|type|modification|explanation|reason|reasoning|rationale|notes?|comment|thoughts?|"
    r"thinking|name|class|class_name|photo_of|language"
)
_CAPTION_KEY = re.compile(
    r"caption|rewrit|text|new|descri|prompt|sentence|after|output|result|final"
)
# A list of strings inside a line: captions = ["...", "..."]
_INLINE_LIST = re.compile(r"\[\s{0,80}(?=[\"'“])")
_START = re.compile(r"^[ \t]*(?=[\[{])", re.M)
_STARTS_AT_MOST = 20
_DEEPEST = 6
# A complete string of a text that is cut off, with its key if it has one.
_STRING = re.compile(
    r'(?:"(?P<key>[^"\\\n]{1,60})"\s*:\s*)?(?P<string>"(?:[^"\\\n]|\\.)*")(?!\s*:)'
)
_COMMENT = re.compile(r"(?<=[,\"'])[ \t]*//[^\n\"']{0,200}$", re.M)
_LOOKS_LIKE_JSON = re.compile(r'\s*(?:\[\s*(?:["{\[]|\Z)|\{\s*(?:"|\Z))')


def captions_in_json(text: str) -> list[str] | None:
    """Return the captions of a JSON text, None where there is no JSON.

    The text may be one value, several (one a line), the only value between lines of talk, a list as
    Python writes it, or cut off at its end: then its complete strings count.
    """
    whole = _parsed(text.strip())
    if isinstance(whole, str):  # the whole answer is one string
        return captions_in_json(whole) or [whole]
    if len(strings := _bare_strings(text.strip())) > 1:
        return strings
    found = [value for value in _values(text) if isinstance(value, (list, dict))]
    captions = [caption for value in found for caption in _captions(value, _DEEPEST)]
    if captions or (found and text.strip() in ("[]", "{}")):
        return captions
    if (listed := _inline_list(text)) is not None:
        return listed
    if not found and _LOOKS_LIKE_JSON.match(text):
        return _complete_strings(text)
    return None


def _parsed(text: str) -> Any:
    """Return the value of JSON text, None if it is none."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _bare_strings(text: str) -> list[str]:
    """Return the strings of a list without brackets, or in those of a tuple or set; else []."""
    inside = text[1:-1] if text[:1] + text[-1:] in ("()", "{}") else text
    if inside.lstrip()[:1] not in ("'", '"'):
        return []
    value = _python_value(f"[{inside}]")
    strings = value if isinstance(value, list) else []
    return strings if all(isinstance(entry, str) for entry in strings) else []


def _inline_list(text: str) -> list[str] | None:
    """Return the strings of the only list of them in a text, None if there is none or are more."""
    starts = [match.start() for match in _INLINE_LIST.finditer(text)]
    if len(starts) != 1:
        return None
    body = text[starts[0] : text.rfind("]") + 1]
    if '"' not in body:
        body = body.replace("“", '"').replace("”", '"')
    value = _parsed(body)
    if value is None:
        value = _python_value(_COMMENT.sub("", body))
    if not isinstance(value, list) or not all(isinstance(entry, str) for entry in value):
        return None
    return value


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
        inside = _parsed(value) if depth and value.lstrip()[:1] in ("{", "[") else None
        if isinstance(inside, list | dict):  # as the arguments of a call are
            yield from _captions(inside, depth - 1)
        else:
            yield value
    elif isinstance(value, list) and depth:
        for item in value:
            yield from _captions(item, depth - 1)
    elif isinstance(value, dict) and depth:
        yield from _captions_of_object(value, depth - 1)


def _captions_of_object(value: dict[Any, Any], depth: int) -> Iterator[str]:
    keyed = {str(key).casefold().replace(" ", "_").replace("-", "_"): v for key, v in value.items()}
    if len(keyed) > 1 and all(isinstance(entry, dict) for entry in keyed.values()):
        for entry in keyed.values():  # {"light": {"caption": "..."}, "view": {...}}
            yield from _captions(entry, depth)
        return
    lists = [
        entry
        for key, entry in keyed.items()
        if isinstance(entry, (list, dict)) and entry and not _OTHER_KEYS.fullmatch(key)
    ]
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
    rest = {
        key: entry
        for key, entry in keyed.items()
        if isinstance(entry, str) and not _OTHER_KEYS.fullmatch(key)
    }
    if isinstance(keyed.get("arguments"), str):  # a call
        rest = {"arguments": keyed["arguments"]}
    for key, entry in rest.items():
        if _CAPTION_KEY.search(key) and len(rest) < len(keyed):
            yield from _captions(entry, depth)
            return
    # {"1": "...", "2": "..."} or {"light": "...", "view": "..."}
    for entry in rest.values():
        yield from _captions(entry, depth)


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
