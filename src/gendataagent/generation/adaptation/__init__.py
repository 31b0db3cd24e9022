"""Adapt the generator to the real training images, in a folder of its own."""

from gendataagent.generation.adaptation.adapting import adapt
from gendataagent.generation.adaptation.job import CONFIG_FILE
from gendataagent.generation.adaptation.result import (
    Adaptation,
    Distances,
    distance_rows,
    read_adaptation,
)

__all__ = ["CONFIG_FILE", "Adaptation", "Distances", "adapt", "distance_rows", "read_adaptation"]
