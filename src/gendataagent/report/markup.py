"""HTML elements and number formats. All text from data goes through `esc`."""

from __future__ import annotations

import html
import math
import re
from collections.abc import Iterable, Sequence
from typing import TypeGuard

NBSP = "\u00a0"
MINUS = "\u2212"
MISSING = "\u2013"

_UNPRINTABLE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def esc(value: object) -> str:
    """Return text safe in HTML content and in double- or single-quoted attributes.

    Control characters, lone surrogates (file names that are not UTF-8) and characters that reverse
    the text direction become a replacement character.
    """
    return html.escape(printable(value), quote=True)


def printable(value: object) -> str:
    """Return text with a replacement character for each that cannot be shown, see `esc`."""
    return _UNPRINTABLE.sub("\ufffd", str(value))


def name(value: object) -> str:
    """Return a name from the data, escaped and isolated from the text direction around it."""
    return f"<bdi>{esc(value)}</bdi>"


def section(anchor: str, title: str, body: str, *, lead: str = "") -> str:
    """Return a titled section; "" if its body is empty. `title` and `lead` are HTML."""
    if not body:
        return ""
    intro = f'<p class="lead">{lead}</p>' if lead else ""
    return (
        f'<section id="{anchor}" aria-labelledby="{anchor}-title">'
        f'<h2 id="{anchor}-title">{title}</h2>{intro}{body}</section>'
    )


def table(
    head: Sequence[str], rows: Iterable[Sequence[str]], *, caption: str, numeric: bool = True
) -> str:
    """Return a table in a box that scrolls sideways; cells are HTML.

    The first cell of a row is its header. With `numeric`, the other columns are right-aligned.
    """
    kind = ' class="numeric"' if numeric else ""
    header = "".join(f'<th scope="col">{cell}</th>' for cell in head)
    body = "".join(
        f'<tr><th scope="row">{row[0]}</th>'
        + "".join(f"<td>{cell}</td>" for cell in row[1:])
        + "</tr>"
        for row in rows
    )
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{caption}"><table{kind}>'
        f'<caption class="unseen">{caption}</caption><thead><tr>{header}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )


def details(summary: str, body: str, *, is_open: bool = False) -> str:
    """Return a part that opens on a click, without a script."""
    state = " open" if is_open else ""
    return f"<details{state}><summary>{summary}</summary>{body}</details>"


def percent(share: float | None) -> str:
    """Return 0.7134 as "71.3 %"."""
    return MISSING if not _finite(share) else f"{100 * share:.1f}{NBSP}%"


def points(difference: float | None) -> str:
    """Return a difference of shares as signed percentage points: 0.021 as "+2.1"."""
    return MISSING if not _finite(difference) else signed(100 * difference, 1)


def signed(value: float, digits: int) -> str:
    """Return a number with its sign; zero after rounding has none."""
    text = f"{abs(value):.{digits}f}"
    if float(text) == 0:
        return text
    return f"{'+' if value > 0 else MINUS}{text}"


def number(value: float | None, digits: int = 3) -> str:
    """Return a number with a fixed number of decimals."""
    if not _finite(value):
        return MISSING
    return f"{value:.{digits}f}".replace("-", MINUS)


def small(value: float | None) -> str:
    """Return a score of any magnitude as HTML: 0.0123, or 1.52·10⁻⁵ with an exponent."""
    if not _finite(value):
        return MISSING
    if value != 0 and abs(value) < 0.001:
        mantissa, exponent = f"{value:.2e}".split("e")
        return f"{mantissa}·10<sup>{int(exponent)}</sup>".replace("-", MINUS)
    return f"{value:#.3g}".removesuffix(".").replace("-", MINUS)


def count(value: int) -> str:
    """Return 12345 as "12,345"."""
    return f"{value:,}"


def plural(value: int, noun: str) -> str:
    """Return a count with its noun: "1 round", "3 rounds"."""
    return f"{count(value)}{NBSP}{noun}{'' if value == 1 else 's'}"


def duration(seconds: float) -> str:
    """Return seconds as "42.0 s", "3 min 12 s" or "2 h 05 min"."""
    if not _finite(seconds):
        return MISSING
    if seconds < 60:
        return f"{seconds:.1f}{NBSP}s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes}{NBSP}min {rest}{NBSP}s"
    return f"{minutes // 60}{NBSP}h {minutes % 60:02d}{NBSP}min"


def _finite(value: float | None) -> TypeGuard[float]:
    return value is not None and math.isfinite(value)
