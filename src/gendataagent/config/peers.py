"""The mechanisms of other papers as strategies, from their papers; see docs/peers.md."""

from __future__ import annotations

from collections.abc import Iterator

from gendataagent.config.strategy import REAL_FAKE, Strategy, over

# All images once, before training, from every real one; prompts have only the class name.
_CLASS_PROMPTS = over(REAL_FAKE, {"prompting": {"captioner": "none"}})


def peers() -> Iterator[Strategy]:
    """Yield the strategies, each on the settings of `real-fake` where its paper says nothing."""
    yield Strategy(
        name="da-fusion",
        about="images at four strengths; half of the time in place of the real image",
        source="Trabucco et al. 2024, its scripts [C]; without its learned class tokens",
        settings=over(
            _CLASS_PROMPTS,
            {
                "generation": {"strengths": [0.25, 0.5, 0.75, 1.0]},
                "training": {"sibling_replacement": 0.5},
            },
        ),
    )
