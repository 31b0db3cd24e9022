"""Contexts of other images: the caption of one image for the class of another.

Yang et al., 2025 (BOB, 2510.24078): a class must not be bound to the backgrounds and poses of its
few images, so each image is made with the context of any image of the data.
"""

from __future__ import annotations

from collections.abc import Sequence

from gendataagent.core.protocols import Rewrite, RewriteRequest
from gendataagent.core.records import ModelDescription, derive_seed
from gendataagent.generation.class_mentions import names_another_class

NAME = "contexts"
_DRAWS = 64  # before a request without a usable context among these gets none


class OtherContexts:
    """Returns the caption of any image of the round, each equally likely, by the seed.

    Captions that name another class than the one asked for are left out; with captions that name
    their class, few are left: a captioner that is asked for background and pose alone is meant.
    """

    description = ModelDescription(name=NAME)

    def rewrite(self, requests: Sequence[RewriteRequest]) -> list[tuple[Rewrite, ...]]:
        """Return, per request, one caption of `request.contexts` per seed; "" where none fits."""
        return [tuple(Rewrite(text=_drawn(r, seed)) for seed in r.seeds) for r in requests]

    def release(self) -> None:
        """Do nothing: there is no model."""


def _drawn(request: RewriteRequest, seed: int) -> str:
    if not request.contexts:
        return ""
    for draw in range(_DRAWS):
        place = derive_seed(seed, "context", draw) % len(request.contexts)
        text = request.contexts[place]
        if text and not names_another_class(text, request.class_name, request.class_names):
            return text
    return ""
