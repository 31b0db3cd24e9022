"""A generator that takes its time: the same images, later."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from gendataagent.core.protocols import Guide, ImageGenerator, Rendered, RenderRequest
from gendataagent.core.records import ModelDescription


class PacedGenerator:
    """Waits before each batch."""

    def __init__(self, inner: ImageGenerator, seconds: float) -> None:
        self._inner, self._seconds = inner, seconds
        self.description = inner.description

    def render(self, requests: Sequence[RenderRequest]) -> list[Rendered]:
        """Return what the inner generator makes."""
        time.sleep(self._seconds)
        return self._inner.render(requests)


@dataclass(frozen=True)
class PacedFactory:
    """Builds the generator of another factory, with `seconds` before each batch."""

    inner: Any
    seconds: float

    def __call__(self) -> ImageGenerator:
        return PacedGenerator(self.inner(), self.seconds)

    def describe(self) -> ModelDescription:
        """Return what the inner factory describes."""
        description: ModelDescription = self.inner.describe()
        return description

    def with_guide(self, guide: Guide) -> PacedFactory:
        """Return a factory of steered generators."""
        return replace(self, inner=self.inner.with_guide(guide))
