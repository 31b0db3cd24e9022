"""Strength, selection share and filter share chosen by validation gain while training.

A round makes as many images as its settings say, of all the options together; a copy of the
classifier then trains for a few steps with the images of each option, and those of the best options
stay. How and why: docs/adaptive.md. `rounds` (which imports torch) puts the parts together.
"""

from __future__ import annotations

from gendataagent.agent.adaptive.planning import (
    images_per_source,
    most_probes,
    select_widest,
    widest,
    with_strengths,
)
from gendataagent.agent.adaptive.trying import Probe, best_option, mean_gains, read_probes

__all__ = [
    "Probe",
    "best_option",
    "images_per_source",
    "mean_gains",
    "most_probes",
    "read_probes",
    "select_widest",
    "widest",
    "with_strengths",
]
