"""A prompt rewriter without a model: it changes one or two visible attributes of a caption.

The subject stays: its colour and every phrase outside the vocabulary (free text of another
captioner) are unchanged. Background, light, framing and the like get another value of the same
attribute, or are added where the caption does not mention them.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

from gendataagent.core.protocols import Rewrite, RewriteRequest
from gendataagent.core.records import ModelDescription
from gendataagent.core.text import normalize_whitespace
from gendataagent.generation.tiny.vocabulary import (
    MEANING,
    NAME,
    PHRASES_AT_MOST,
    REVISION,
    SEPARATOR,
    WORDINGS,
    AttributeName,
    phrase,
)

# Common colours of places; a pink or orange one would be no small change.
BACKGROUND_COLOURS = ("green", "blue", "grey", "brown", "white", "black", "beige")
CHANGEABLE: tuple[AttributeName, ...] = (
    "background_colour",
    "light",
    "colourfulness",
    "framing",
    "background",
    "warmth",
    "contrast",
    "position",
)
# Free text has most likely described the place already and may not be contradicted.
PLACE: frozenset[AttributeName] = frozenset({"background_colour", "background"})
TWO_CHANGES_SHARE = 0.4
TRIES_PER_SIZE = 40

Change = tuple[AttributeName, str]


class AttributeRewriter:
    """Changes one or two attributes per seed; the rewrites of one request differ from each other.

    The vocabulary allows some 20 single changes, hundreds of pairs and thousands of triples.
    """

    description = ModelDescription(name=NAME, revision=REVISION)

    def rewrite(self, requests: Sequence[RewriteRequest]) -> list[tuple[Rewrite, ...]]:
        """Return, per request, one changed caption per seed."""
        return [
            tuple(Rewrite(text=text) for text in _rewrites(request.caption, request.seeds))
            for request in requests
        ]

    def release(self) -> None:
        """Do nothing: there is no model."""


def _rewrites(caption: str, seeds: Sequence[int]) -> tuple[str, ...]:
    phrases = _phrases(caption)
    changes = possible_changes(phrases)
    used = {SEPARATOR.join(phrases)}
    result = []
    for seed in seeds:
        rewritten = _unused_rewrite(phrases, changes, used, random.Random(seed))
        used.add(rewritten)
        result.append(rewritten)
    return tuple(result)


def _phrases(caption: str) -> list[str]:
    """Return the caption's parts, without a full stop at its end."""
    parts = (part.strip() for part in normalize_whitespace(caption).rstrip(".").split(","))
    return [part for part in parts if part]


def possible_changes(phrases: Sequence[str]) -> dict[AttributeName, list[str]]:
    """Return attribute -> values it can change to; the caption's own values are left out."""
    said = dict(_meanings(phrases))
    free_text = any(_meaning(part) is None for part in phrases)
    changes: dict[AttributeName, list[str]] = {}
    for name in CHANGEABLE:
        if free_text and name in PLACE and name not in said:
            continue
        values = BACKGROUND_COLOURS if name == "background_colour" else tuple(WORDINGS[name])
        changes[name] = [value for value in values if value != said.get(name)]
    return changes


def _meanings(phrases: Sequence[str]) -> list[Change]:
    return [meaning for part in phrases if (meaning := _meaning(part)) is not None]


def _meaning(part: str) -> Change | None:
    return MEANING.get(part.casefold())


def _unused_rewrite(
    phrases: Sequence[str],
    changes: dict[AttributeName, list[str]],
    used: set[str],
    rng: random.Random,
) -> str:
    """Return a rewrite not in `used`; more attributes change once smaller changes are used up."""
    rewritten = SEPARATOR.join(phrases)
    size = 2 if rng.random() < TWO_CHANGES_SHARE else 1
    while size <= len(changes):
        for _ in range(TRIES_PER_SIZE):
            names = rng.sample(list(changes), size)
            rewritten = apply_changes(phrases, [(n, rng.choice(changes[n])) for n in names])
            if rewritten not in used:
                return rewritten
        size += 1
    return rewritten


def apply_changes(phrases: Sequence[str], changes: Sequence[Change]) -> str:
    """Return the caption with the phrase of each changed attribute replaced, or added at the end.

    The generator reads at most six phrases of the vocabulary: beyond that, older ones are dropped,
    but never free text, the subject or a change.
    """
    parts = list(phrases)
    fresh = {phrase(name, value) for name, value in changes}
    for name, value in changes:
        positions = [i for i, part in enumerate(parts) if (_meaning(part) or ("", ""))[0] == name]
        if positions:
            parts[positions[0]] = phrase(name, value)
        else:
            parts.append(phrase(name, value))
    for part in reversed(parts[:]):
        if len(_meanings(parts)) <= PHRASES_AT_MOST:
            break
        meaning = _meaning(part)
        if meaning and part not in fresh and not meaning[0].endswith("_colour"):
            parts.remove(part)
    return SEPARATOR.join(parts)
