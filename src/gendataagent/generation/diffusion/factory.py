"""Builds a generator from its specification, in this process or in a worker."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, ClassVar, Self

from gendataagent.core.protocols import Guide
from gendataagent.generation.diffusion.spec import DiffusionSpec

if TYPE_CHECKING:
    from gendataagent.generation.diffusion.generator import DiffusionGenerator


@dataclass(frozen=True, slots=True, kw_only=True)
class DiffusionFactory(DiffusionSpec):
    """A specification that can be called; picklable, so that each worker builds its generator.

    Args:
        guide: the classifier that steers requests with feedback; None = there are none.
    """

    guide: Guide | None = field(default=None, compare=False, repr=False)

    makes_from_text: ClassVar[bool] = True
    follows_edges: ClassVar[bool] = True

    def with_guide(self, guide: Guide) -> Self:
        """Return the factory of a generator that accepts requests with feedback."""
        return replace(self, guide=guide)

    def __call__(self) -> DiffusionGenerator:
        """Load the pipeline.

        Raises:
            ModelError: it cannot be loaded; the message says what to do.
            ConfigError: `size_px` does not suit the model.
        """
        from gendataagent.generation.diffusion.generator import DiffusionGenerator

        return DiffusionGenerator(self, self.guide)
