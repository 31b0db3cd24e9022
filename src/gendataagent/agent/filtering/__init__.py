"""Filters: score the synthetic images, then drop a share of each class.

To add a filter: write `def my_scores(context: FilterContext) -> FilterScores` in a new file of this
folder and add one line to `FILTERS`; its name then works as `filter.by`. If it reads the snapshots,
add its name to `READS_SNAPSHOTS` too.
"""

from __future__ import annotations

from collections.abc import Mapping

from gendataagent.agent.filtering.agreement import agreement_scores
from gendataagent.agent.filtering.controls import no_scores, random_scores
from gendataagent.agent.filtering.nearest_neighbours import nearest_neighbour_scores
from gendataagent.agent.filtering.text_agreement import (
    TEXT_AGREEMENT,
    check_text_agreement,
    text_agreement_scores,
)
from gendataagent.agent.filtering.verdicts import Filter, FilterContext, FilterScores, drop
from gendataagent.agent.filtering.vog import vog_scores
from gendataagent.core.plugins import Parts

FILTERS: Mapping[str, Filter] = Parts(
    "filters",
    {
        "vog": vog_scores,
        "knn": nearest_neighbour_scores,
        "agreement": agreement_scores,
        TEXT_AGREEMENT: text_agreement_scores,
        "random": random_scores,
        "none": no_scores,
    },
)

READS_SNAPSHOTS = frozenset({"vog"})

__all__ = [
    "FILTERS",
    "Filter",
    "FilterContext",
    "FilterScores",
    "check_text_agreement",
    "drop",
    "reads_snapshots",
]


def reads_snapshots(name: str) -> bool:
    """Return whether a filter reads `FilterContext.snapshots`, all of which must then be there.

    A filter of another package says so by an attribute: `my_scores.reads_snapshots = True`.
    """
    return name in READS_SNAPSHOTS or bool(getattr(FILTERS[name], "reads_snapshots", False))
