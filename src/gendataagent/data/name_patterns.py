"""Regular expressions over the ids of images: the first bracket names a class or a group."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterable, Sequence
from typing import NoReturn

from gendataagent.core.errors import ConfigError
from gendataagent.core.text import reason_of
from gendataagent.data import pattern_search
from gendataagent.data.index import first_few

USUAL_NAME = "([^/]*?)[-_. ]*[0-9]+[.]"  # of cat_0001.jpg and dog.12.jpg
_PATIENCE_S, _PATIENCE_FOR_ONE_S = 10.0, 1e-4


def names_by(expression: str, ids: Iterable[str]) -> dict[str, str]:
    """Return the name of each id that an expression of ours fits; see `pattern_search.search`."""
    ids = list(ids)
    return _found(ids, pattern_search.search(expression, ids))


def names_by_setting(
    setting: str, expression: str, example: str, ids: Iterable[str]
) -> dict[str, str]:
    """Return the name of each id that the expression of a setting fits.

    Raises:
        ConfigError: it is no regular expression, or one that needs very long for an id.
    """
    ids = list(ids)
    request = json.dumps({"expression": expression, "texts": ids})

    def refuse(why: str) -> NoReturn:
        shown = repr(expression if len(expression) <= 200 else f"{expression[:199]}…")
        raise ConfigError(f"{setting} {shown} {why}; give one such as {example}")

    try:
        done = subprocess.run(
            [sys.executable, "-I", pattern_search.__file__],
            input=request.encode(),
            capture_output=True,
            check=False,
            timeout=_PATIENCE_S + _PATIENCE_FOR_ONE_S * len(ids),
        )
    except subprocess.TimeoutExpired as error:
        slow = ids[min((error.stdout or b"").count(b"\n"), len(ids) - 1)] if ids else ""
        refuse(
            f"takes too long to search {slow!r}: it can be divided in very many ways, as (a+)+ can"
        )
    if done.returncode:
        reason = reason_of(ValueError(done.stderr.decode(errors="replace")))
        refuse(f"is not a regular expression ({reason})")
    return _found(ids, map(json.loads, done.stdout.splitlines()))


def _found(ids: Sequence[str], names: Iterable[str | None]) -> dict[str, str]:
    return {id_: name for id_, name in zip(ids, names, strict=True) if name is not None}


def names_hint(paths: Sequence[str]) -> str:
    """Return that the names of files may say the class, to end a message with; "" if they do not.

    They do if most are a word and a number, of a few words.
    """
    named = names_by(USUAL_NAME, paths)
    classes = sorted({name for name in named.values() if name})
    if not 2 <= len(classes) <= len(named) / 2 or 2 * len(named) < len(paths):
        return ""
    return (
        f". If their names say the class ({first_few(classes, at_most=3)}): "
        f"--set 'data.class_pattern={USUAL_NAME}'"
    )
