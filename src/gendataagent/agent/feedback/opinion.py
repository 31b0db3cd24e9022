"""What a network that was not the guide says of images with and without feedback.

Without torch, since the report reads it; `runs.second_opinion` writes it.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from gendataagent.agent.feedback.hardness import Hardness


@dataclass(frozen=True, slots=True, kw_only=True)
class Opinion:
    """How a network sees a set of images.

    Args:
        p_true: mean probability of the images' class.
        recognised: share whose class is the likeliest in the second view of `Hardness`.
    """

    p_true: float
    recognised: float

    @classmethod
    def of(cls, hardness: Hardness) -> Opinion:
        """Return the means over images, of which there is at least one."""
        return cls(
            p_true=round(hardness.mean_p(hardness.labels), 6),
            recognised=round(hardness.recognition(hardness.labels), 6),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundOpinion:
    """How a network sees the probes of a round's feedback.

    Args:
        images: number of probes that have an image both without and with feedback.
        sources: their real sources; `plain`, `guided`: without and with feedback from the same
            seeds.
    """

    round: int
    images: int
    sources: Opinion
    plain: Opinion
    guided: Opinion


@dataclass(frozen=True, slots=True, kw_only=True)
class SecondOpinion:
    """`RUN/second_opinion.json`: the baseline's classifier on the probes of each guided round."""

    rounds: tuple[RoundOpinion, ...]

    def to_json(self) -> dict[str, Any]:
        """Return the fields as plain JSON values; `core.rows.fit` reads them."""
        return asdict(self)
