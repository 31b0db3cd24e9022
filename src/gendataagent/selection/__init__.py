"""Which real images new ones are made from: a selector scores them, the lowest are chosen.

To add a selector: write `def my_score(context: SelectionContext) -> np.ndarray` in a new file of
this folder and add one line to `SELECTORS`; its name then works as `selection.by`.
"""

from __future__ import annotations

from collections.abc import Mapping

from gendataagent.selection.choosing import SelectionContext, Selector, choose
from gendataagent.selection.confidence import marginal_score
from gendataagent.selection.random_order import uniform_score
from gendataagent.selection.uncertainty import margin_score, negative_entropy

SELECTORS: Mapping[str, Selector] = {
    "marginal": marginal_score,
    "uniform": uniform_score,
    "entropy": negative_entropy,
    "margin": margin_score,
}

__all__ = ["SELECTORS", "SelectionContext", "Selector", "choose"]
