"""The controls of the prompt steps: a captioner and a rewriter that change nothing."""

from __future__ import annotations

from collections.abc import Sequence

from gendataagent.core.protocols import CaptionRequest, Rewrite, RewriteRequest
from gendataagent.core.records import ModelDescription


class NoCaption:
    """Leaves the prompt at the class name: "A photo of [class]"."""

    description = ModelDescription(name="none")

    def caption(self, requests: Sequence[CaptionRequest]) -> list[str]:
        """Return an empty caption per image."""
        return ["" for _ in requests]

    def release(self) -> None:
        """Do nothing: there is no model."""


class SameCaption:
    """Returns each caption unchanged; images of one source then differ by seed alone."""

    description = ModelDescription(name="none")

    def rewrite(self, requests: Sequence[RewriteRequest]) -> list[tuple[Rewrite, ...]]:
        """Return, per request, its own caption once per seed."""
        return [(Rewrite(text=r.caption),) * len(r.seeds) for r in requests]

    def release(self) -> None:
        """Do nothing: there is no model."""
