"""Keys and passwords, and how they are kept out of everything that is shown.

A server may repeat a key in an error, a redirect or a page. Whatever the command line prints and
every message that quotes a server passes through here.
"""

from __future__ import annotations

import functools
import html
import json
import os
import re
from urllib.parse import quote, quote_plus

from gendataagent.core.text import remove_control_characters

MASK = "***"
SHORTEST_SECRET = 6
# A server may repeat a key cut off: from this length on its first half is hidden too.
_LONG_SECRET = 16
_SECRET_VARIABLE = re.compile(
    r"(?:^|_)(?:API_?KEY|KEY|TOKEN|SECRET|PASSWORD|PASSWD|PASSPHRASE)$", re.I
)
_IN_AN_ADDRESS = re.compile(r"(?<=://)[^/\s@'\"]+@")
_IN_A_QUERY = re.compile(
    r"(?<=[?&])((?:api[_-]?key|key|token|access_token|password|sig|signature)=)[^&\s'\"]+", re.I
)
_IN_A_HEADER = re.compile(r"\b(Bearer|Basic)\s+[\w.~+/=-]{6,}", re.I)

_remembered: set[str] = set()


def shown(text: str) -> str:
    """Return text as it may be quoted: without secrets and without control characters."""
    return without_secrets(remove_control_characters(text))


def remember_secret(secret: str) -> None:
    """Never show this text again; one too short to be a secret is ignored."""
    if len(secret) >= SHORTEST_SECRET:
        _remembered.add(secret)


def without_secrets(text: str) -> str:
    """Return text with `MASK` in the place of secrets.

    Secrets are those of `remember_secret`, the values of environment variables named like one
    (..._KEY, ..._TOKEN, ..._PASSWORD), and credentials in an address or a header.
    """
    named = (value.strip() for name, value in os.environ.items() if _SECRET_VARIABLE.search(name))
    # a variable may name the file of a key
    secrets = {
        value for value in named if len(value) >= SHORTEST_SECRET and value[0] not in "/~"
    } | _remembered
    if secrets:
        text = _pattern(frozenset(secrets)).sub(MASK, text)
    text = _IN_AN_ADDRESS.sub(f"{MASK}@", text)
    text = _IN_A_QUERY.sub(rf"\1{MASK}", text)
    return _IN_A_HEADER.sub(rf"\1 {MASK}", text)


def without(text: str, secret: str) -> str:
    """Return text with `MASK` in the place of this secret, in every form it is repeated in."""
    if len(secret) < SHORTEST_SECRET:
        return text
    return _pattern(frozenset({secret})).sub(MASK, text)


@functools.lru_cache(maxsize=8)
def _pattern(secrets: frozenset[str]) -> re.Pattern[str]:
    """Return the pattern of secrets in every form they are repeated in, the longest first."""
    forms = {form for secret in secrets for form in _forms(secret)}
    escaped = [*map(_percent_or_plain, sorted(secrets, key=len, reverse=True))]
    escaped += map(re.escape, sorted(forms, key=len, reverse=True))
    return re.compile("|".join(escaped), re.I)


def _percent_or_plain(secret: str) -> str:
    """Return the pattern of a secret each of whose characters may be percent-encoded."""
    return "".join(
        f"(?:{re.escape(letter)}|{''.join(f'%{byte:02x}' for byte in letter.encode())})"
        for letter in secret
    )


def _forms(secret: str) -> set[str]:
    whole = {
        secret, quote(secret), quote(secret, safe=""), quote_plus(secret),
        json.dumps(secret)[1:-1], html.escape(secret),
    }  # fmt: skip
    if len(secret) < _LONG_SECRET:
        return whole
    half = len(secret) // 2
    # the first half, and what follows of the second
    return whole | {form[:cut] for form in whole for cut in range(half, len(form))}
