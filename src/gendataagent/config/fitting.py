"""Fewer epochs than a preset has: as many of its rounds as fit."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from gendataagent.config.agent import AgentConfig
from gendataagent.config.training import TrainingConfig

FITTED = ("agent.rounds", "agent.first_round_epoch")
"""The settings that `with_fitting_rounds` changes, and that a user may have named instead."""


def with_fitting_rounds(
    tree: Mapping[str, Any], epochs_before: object
) -> tuple[dict[str, Any], str]:
    """Return settings whose rounds fit their epochs, and a sentence on what changed, "" if nothing.

    The first round keeps its share of the training if it would come after the end.

    Args:
        tree: settings as in a file; wrong values are left for the check of all settings.
        epochs_before: `training.epochs` for which the rounds were meant.
    """
    result = copy.deepcopy(dict(tree))
    agent, training = result.setdefault("agent", {}), result.get("training", {})
    if not isinstance(agent, dict) or not isinstance(training, dict):
        return result, ""
    default = AgentConfig()
    epochs = training.get("epochs", TrainingConfig().epochs)
    rounds = agent.get("rounds", default.rounds)
    first = agent.get("first_round_epoch", default.first_round_epoch)
    within = agent.get("rounds_within", default.rounds_within)
    overlap = bool(agent.get("overlap", default.overlap))
    whole = (epochs, rounds, first)
    if any(not isinstance(value, int) or isinstance(value, bool) for value in whole):
        return result, ""
    before = epochs_before if isinstance(epochs_before, int) else epochs
    if not isinstance(within, int | float) or not 0 < within <= 1 or epochs < 1:
        return result, ""
    last = AgentConfig(rounds_within=within).last_epoch(epochs)
    room = last - max(0, first) - overlap
    if room >= rounds:
        return result, ""
    if room < 1 and first > 0:
        first = min(first * epochs // max(before, 1), max(0, last - 1 - overlap))
        room = last - first - overlap
    if room < 1:
        return result, ""
    fitted = min(rounds, room)
    said = f"agent.rounds is {fitted} instead of {rounds}" if fitted != rounds else ""
    if first != agent.get("first_round_epoch", default.first_round_epoch):
        said += f"{' and ' if said else ''}agent.first_round_epoch is {first}"
        agent["first_round_epoch"] = first
    agent["rounds"] = fitted
    return result, f"{said}, so that the rounds fit {epochs} epochs; --rounds sets another number"
