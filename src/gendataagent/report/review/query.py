"""What a review holds of a candidate; which ones the page asks for, and in which order."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from gendataagent.core.errors import GenDataAgentError

SCORES = ("vog", "source")
SORTS = ("made", "low", "high", "class")


class RequestError(GenDataAgentError):
    """The page has asked for something that cannot be done."""


@dataclass(frozen=True, slots=True)
class Entry:
    """What is held in memory of a candidate; the rest stays in the table of its round."""

    place: int
    round: int
    row: int
    id: str
    label: int
    class_name: str
    source_id: str
    vog: float | None
    source_score: float | None
    rejected_by: str | None

    def score(self, kind: str) -> float | None:
        """Return the filter's score (vog) or that of the source image (source)."""
        return self.vog if kind == "vog" else self.source_score


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """Which candidates, in which order.

    Args:
        label, round, source, verdict: "" = all; `source` is an id or a part of one, as shown.
        score: which score `low`, `high` and `sort` mean.
    """

    label: str = ""
    round: str = ""
    source: str = ""
    verdict: str = ""
    score: str = SCORES[0]
    low: float = -math.inf
    high: float = math.inf
    sort: str = SORTS[0]

    @classmethod
    def of(cls, values: Mapping[str, str]) -> Query:
        """Return the query in the parameters of a request; raise `RequestError` for a wrong one."""
        score, sort = values.get("score") or SCORES[0], values.get("sort") or SORTS[0]
        if score not in SCORES or sort not in SORTS:
            raise RequestError(
                f"score is one of {', '.join(SCORES)}; sort one of {', '.join(SORTS)}"
            )
        return cls(
            label=values.get("class", ""),
            round=values.get("round", ""),
            source=values.get("source", "").casefold(),
            verdict=values.get("verdict", ""),
            score=score,
            low=_number(values, "low", -math.inf),
            high=_number(values, "high", math.inf),
            sort=sort,
        )

    def order(self) -> Callable[[Entry], tuple[Any, ...]]:
        """Return the key of a total order; candidates without a score come last."""
        sign = -1 if self.sort == "high" else 1

        def by_score(entry: Entry) -> tuple[Any, ...]:
            score = entry.score(self.score)
            return score is None, sign * (score or 0.0), entry.place

        if self.sort == "class":
            return lambda entry: (entry.class_name, entry.place)
        return by_score if self.sort in ("low", "high") else lambda entry: (entry.place,)


def _number(values: Mapping[str, str], name: str, otherwise: float) -> float:
    text = values.get(name, "").strip()
    try:
        number = float(text) if text else otherwise
    except ValueError as error:
        raise RequestError(f"{name}: {text[:40]!r} is not a number") from error
    if math.isnan(number):
        raise RequestError(f"{name}: {text[:40]!r} is not a number")
    return number
