"""Regular expressions over the ids of images: the first bracket names a class or a group."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from gendataagent.core.errors import ConfigError
from gendataagent.data.index import first_few

USUAL_NAME = "([^/]*?)[-_. ]*[0-9]+[.]"  # of cat_0001.jpg and dog.12.jpg


def compiled(setting: str, text: str, example: str) -> re.Pattern[str]:
    """Return the pattern of a setting.

    Raises:
        ConfigError: it is no regular expression.
    """
    try:
        return re.compile(text)
    except re.error as error:
        raise ConfigError(
            f"{setting} {text!r} is not a regular expression ({error}); give one such as {example}"
        ) from error


def names_by(pattern: re.Pattern[str], ids: Iterable[str]) -> dict[str, str]:
    """Return the name of each id that fits: the first bracket, else all that the pattern fits."""
    named = {}
    for id_ in ids:
        if found := pattern.search(id_):
            named[id_] = found[1] if pattern.groups and found[1] is not None else found[0]
    return named


def names_hint(paths: Sequence[str]) -> str:
    """Return that the names of files may say the class, to end a message with; "" if they do not.

    They do if most are a word and a number, of a few words.
    """
    named = names_by(re.compile(USUAL_NAME), paths)
    classes = sorted({name for name in named.values() if name})
    if not 2 <= len(classes) <= len(named) / 2 or 2 * len(named) < len(paths):
        return ""
    return (
        f". If their names say the class ({first_few(classes, at_most=3)}): "
        f"--set 'data.class_pattern={USUAL_NAME}'"
    )
