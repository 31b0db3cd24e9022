"""A prompt rewriter without a model: a place, a light and a view that do not change the class.

Michaeli and Fried, NeurIPS 2024 (SaSPA): prompts describe where and when, not what the sub-class
looks like, which the generator knows less well than the edges of the source show. They ask GPT-4
for a hundred prompts of the super-class; here parts are drawn, which suit most things.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

from gendataagent.core.protocols import Rewrite, RewriteRequest
from gendataagent.core.records import ModelDescription
from gendataagent.generation.class_mentions import names_another_class

NAME = "scenes"

PLACES = (
    "in a green field", "in front of mountains", "by the sea", "at the shore of a lake",
    "near a forest", "in a desert landscape", "in a village", "in a busy city", "in snow",
    "on a wide plain", "in a valley", "in front of a plain wall", "indoors", "in a park",
    "in a rocky landscape", "among autumn leaves",
)  # fmt: skip
LIGHTS = (
    "at sunrise", "at midday", "at sunset", "at dusk", "at night", "under a clear sky",
    "under a cloudy sky", "in morning mist", "in the rain", "in bright sunshine",
    "in soft light", "in a storm",
)  # fmt: skip
VIEWS = ("in the foreground", "seen from close by", "seen from afar", "with a blurred background")


class SceneRewriter:
    """Gives each seed a place and a light, half of them a view too; captions are left out.

    The rewrites of one request differ from each other while there are scenes enough. What names
    another class of the data, such as "in a forest", is not drawn.
    """

    description = ModelDescription(name=NAME, revision="1")

    def rewrite(self, requests: Sequence[RewriteRequest]) -> list[tuple[Rewrite, ...]]:
        """Return, per request, one scene per seed."""
        return [tuple(Rewrite(text=text) for text in _scenes(request)) for request in requests]

    def release(self) -> None:
        """Do nothing: there is no model."""


def _scenes(request: RewriteRequest) -> list[str]:
    places, lights, views = (
        [p for p in kind if not names_another_class(p, request.class_name, request.class_names)]
        for kind in (PLACES, LIGHTS, VIEWS)
    )
    scenes: list[str] = []
    for seed in request.seeds:
        chance = random.Random(seed)
        parts = places, lights, (*views, *[""] * len(views))
        for _ in range(20):  # tries until it is another one
            drawn = [chance.choice(part) for part in parts if part]
            scene = ", ".join(filter(None, drawn))
            if scene not in scenes:
                break
        scenes.append(scene)
    return scenes
