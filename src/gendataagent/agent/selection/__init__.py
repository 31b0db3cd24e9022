"""Selectors: score the real images; new ones are made from those with the lowest scores.

To add a selector: write `def my_score(context: SelectionContext) -> np.ndarray` in a new file of
this folder and add one line to `SELECTORS`; its name then works as `selection.by`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from gendataagent.agent.selection.confidence import marginal_score
from gendataagent.agent.selection.random_order import uniform_score
from gendataagent.agent.selection.ranking import (
    BY_SIZE,
    FloatArray,
    SelectionContext,
    Selector,
    class_errors,
    count_selected,
    take_lowest,
)
from gendataagent.agent.selection.uncertainty import margin_score, negative_entropy
from gendataagent.core.plugins import Parts

if TYPE_CHECKING:
    from gendataagent.config import SelectionConfig
    from gendataagent.core.records import Scored

SELECTORS: Mapping[str, Selector] = Parts(
    "selectors",
    {
        "marginal": marginal_score,
        "uniform": uniform_score,
        "entropy": negative_entropy,
        "margin": margin_score,
    },
)


def select(context: SelectionContext, settings: SelectionConfig) -> list[Scored]:
    """Return the images that `settings` select, lowest score first; see `take_lowest`.

    Before any training they are drawn at random, by seed: an untrained classifier prefers a few
    classes for every image, so its scores would select complete classes.
    """
    if context.untrained:
        per_class = settings.per_class or settings.budget_by != BY_SIZE
        settings = replace(settings, by="uniform", per_class=per_class, budget_by=BY_SIZE)
    return take_lowest(
        context,
        SELECTORS[settings.by](context),
        settings.share,
        per_class=settings.per_class,
        budget_by=settings.budget_by,
        skip_hardest=settings.skip_hardest,
    )


__all__ = [
    "SELECTORS",
    "FloatArray",
    "SelectionContext",
    "Selector",
    "class_errors",
    "count_selected",
    "select",
    "take_lowest",
]
