"""Markdown and YAML of cards, from names that other people chose."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from gendataagent.core.text import normalize_whitespace, remove_control_characters

_SPECIAL = re.compile(r"([\\`*_{}\[\]|#~$])")


def text(value: object) -> str:
    """Return a value as text that Markdown shows unchanged, on one line."""
    line = normalize_whitespace(remove_control_characters(str(value).replace("\n", " ")))
    return _SPECIAL.sub(r"\\\1", html.escape(line, quote=False))


def table(heads: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Return a table; cells are escaped."""
    lines = [heads, ["---"] * len(heads), *([text(cell) for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def bullets(lines: Iterable[str]) -> str:
    """Return a list; the lines are Markdown already."""
    return "\n".join(f"- {line}" for line in lines)


def front_matter(values: Mapping[str, Any]) -> str:
    """Return the YAML block at the top of a card; JSON values are YAML too."""
    lines = (
        f"{key}: {json.dumps(value, ensure_ascii=False)}" for key, value in values.items() if value
    )
    return "\n".join(["---", *lines, "---", ""])


def card(front: Mapping[str, Any], title: str, parts: Iterable[tuple[str, str]]) -> str:
    """Return a card: front matter, title, and each (heading, Markdown) that is not empty."""
    sections = [f"## {heading}\n\n{body}" if heading else body for heading, body in parts if body]
    return "\n\n".join([f"{front_matter(front)}\n# {title}", *sections]) + "\n"
