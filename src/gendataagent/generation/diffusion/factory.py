"""Builds a generator from its specification, in this process or in a worker."""

from __future__ import annotations

from dataclasses import dataclass

from gendataagent.generation.diffusion.generator import DiffusionGenerator
from gendataagent.generation.diffusion.spec import DiffusionSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class DiffusionFactory(DiffusionSpec):
    """A specification that can be called; picklable, so that workers build their own generator."""

    def __call__(self) -> DiffusionGenerator:
        """Load the pipeline; raises `ModelError` with what to do."""
        return DiffusionGenerator(self)
