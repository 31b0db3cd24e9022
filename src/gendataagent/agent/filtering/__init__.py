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
from gendataagent.agent.filtering.verdicts import Filter, FilterContext, FilterScores, drop
from gendataagent.agent.filtering.vog import vog_scores

FILTERS: Mapping[str, Filter] = {
    "vog": vog_scores,
    "knn": nearest_neighbour_scores,
    "agreement": agreement_scores,
    "random": random_scores,
    "none": no_scores,
}

READS_SNAPSHOTS = frozenset({"vog"})
"""Filters that read `FilterContext.snapshots`: each one that the schedule demands must be there."""

__all__ = ["FILTERS", "READS_SNAPSHOTS", "Filter", "FilterContext", "FilterScores", "drop"]
