"""What a strategy is, and the settings that several of them share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from gendataagent.config.settings import merged


@dataclass(frozen=True, slots=True, kw_only=True)
class Strategy:
    """A named set of settings.

    Args:
        about: one line on what it is.
        source: its source, tagged as in docs/method.md; empty = ours.
        settings: section -> setting -> value, applied on top of the base.
        rewrites: whether it rewrites captions; the base must then name a rewriter.
    """

    name: str
    about: str
    source: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)
    rewrites: bool = False


def over(*trees: Mapping[str, Any]) -> dict[str, Any]:
    """Return the trees merged; where several have a value, that of the last."""
    result: dict[str, Any] = {}
    for tree in trees:
        result = merged(result, tree)
    return result


NO_AGENT = {
    "agent": {"enabled": False, "baseline": False},
    "training": {"real_images": True, "batchnorm_from_real": False},
    "adaptive": {"enabled": False},
}

# Ideas that are not in the paper, off in the strategies that reproduce it.
PLAIN_AGENT = {"enabled": True, "pool": "replace", "rounds_within": 1.0}
PLAIN_TRAINING = {
    "real_images": True,
    "sibling_replacement": 0.0,
    "synthetic_weight": 1.0,
    "synthetic_label_smoothing": 0.0,
    "batchnorm_from_real": False,
}
PLAIN_SELECTION = {
    "per_class": False, "budget_by": "size", "skip_hardest": 0.0, "fresh": False,
}  # fmt: skip

OWN_IMAGE = {"start": "image", "prompt_class": "own", "condition": "none"}

PAPER = {
    "agent": PLAIN_AGENT,  # the base sets when the rounds are
    "training": PLAIN_TRAINING,
    "selection": {"by": "marginal", "share": 0.2, **PLAIN_SELECTION},
    "prompting": {"rewrites": 5},
    "filter": {"by": "vog", "keep": "high"},
    "adaptive": {"enabled": False},
    "generation": {"feedback": "none", **OWN_IMAGE},
}
REAL_FAKE = {
    "agent": {**PLAIN_AGENT, "first_round_epoch": 0, "rounds": 1},
    "training": PLAIN_TRAINING,
    "selection": {"by": "uniform", "share": 1.0, **PLAIN_SELECTION},
    "prompting": {"rewriter": "none", "rewrites": 1},
    "filter": {"by": "none"},
    "adaptive": {"enabled": False},
    "generation": {"feedback": "none", **OWN_IMAGE},
}
