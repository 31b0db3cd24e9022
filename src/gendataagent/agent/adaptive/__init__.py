"""Strength, selection share and filter share chosen by validation gain while training.

A round makes the number of images that the settings ask for, over all options together. A copy of
the classifier then trains for a few steps with the images of each option; those of the best options
are kept. How and why: docs/adaptive.md. `rounds`, which imports torch, combines the parts.
"""

from __future__ import annotations

from gendataagent.agent.adaptive.planning import (
    assign_strengths,
    images_per_source,
    max_probes,
    select_with_min_share,
    widest_selection,
)
from gendataagent.agent.adaptive.probes import Probe, best_option, mean_gains, read_probes

__all__ = [
    "Probe",
    "assign_strengths",
    "best_option",
    "images_per_source",
    "max_probes",
    "mean_gains",
    "read_probes",
    "select_with_min_share",
    "widest_selection",
]
