"""Settings left to decide ("auto", threads = 0): what a run decided when it was made stays."""

from __future__ import annotations

from gendataagent.config import AUTO, RunConfig
from gendataagent.config.settings import iterate_settings


def as_decided(config: RunConfig, decided: RunConfig) -> RunConfig:
    """Return the settings with what they leave to decide as it was decided when a run was made."""
    tree = config.to_dict()
    for row in iterate_settings(decided):
        section, _, name = row.key.rpartition(".")
        group = tree[section] if section else tree
        if group[name] == AUTO and row.setting.affects_results:
            group[name] = row.value
    tree["threads"] = tree["threads"] or decided.threads
    if tree["training"]["processes"] == AUTO:  # another number would round differently
        tree["training"]["processes"] = decided.training.processes
    return RunConfig.from_dict(tree)
