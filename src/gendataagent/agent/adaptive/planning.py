"""Which candidates a round makes, so that every option gets its part.

The number of images is the same as without [adaptive]; the options divide it.
"""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Iterable, Sequence
from dataclasses import replace

from gendataagent.agent.selection import SelectionContext, select
from gendataagent.config import AdaptiveConfig, SelectionConfig
from gendataagent.core.records import Candidate, Scored, derive_seed

# Part of a round for the option that is best so far; the rest keeps testing the others.
FAVOURED = 2 / 3
GOLDEN = (5**0.5 - 1) / 2  # its multiples fill [0, 1) evenly, however many are taken


def widest_selection(selection: SelectionConfig, adaptive: AdaptiveConfig) -> SelectionConfig:
    """Return the selection of all sources that any option of a round needs."""
    if not (adaptive.enabled and adaptive.shares):
        return selection
    return replace(selection, share=max(adaptive.shares))


def max_probes(adaptive: AdaptiveConfig) -> int:
    """Return how many options a round probes at most, including that of no images."""
    strengths = len(adaptive.strengths) + 1 if adaptive.strengths else 0
    return 1 + strengths + len(adaptive.shares) + max(1, len(adaptive.drop_shares))


def select_with_min_share(
    context: SelectionContext, selection: SelectionConfig, adaptive: AdaptiveConfig
) -> list[Scored]:
    """Return the sources of the largest share, each with the smallest share that selects it."""
    if not adaptive.shares:
        return select(context, selection)
    least: dict[str, float] = {}
    for share in sorted(adaptive.shares, reverse=True):
        chosen = select(context, replace(selection, share=share))
        least.update((scored.source_id, share) for scored in chosen)
    everything = select(context, widest_selection(selection, adaptive))
    return [replace(scored, min_share=least[scored.source_id]) for scored in everything]


def images_per_source(
    selected: Sequence[Scored], total: int, favoured: float | None = None
) -> list[int]:
    """Return how many images are made from each source: `total` in all, divided evenly.

    If it cannot be divided evenly, the hardest sources get one more.

    Args:
        favoured: the best share so far; its sources get `FAVOURED` of the images, or their even
            part if that is more.
    """
    everyone = list(range(len(selected)))
    inside = [
        i for i in everyone if favoured is not None and (selected[i].min_share or 1.0) <= favoured
    ]
    outside = sorted(set(everyone) - set(inside))
    if not inside or not outside:
        groups = [(everyone, total)]
    else:
        part = max(FAVOURED, len(inside) / len(everyone))
        groups = [(inside, round(part * total)), (outside, total - round(part * total))]
    numbers = [0] * len(selected)
    for members, images in groups:
        for place, i in enumerate(members):
            numbers[i] = images // len(members) + (place < images % len(members))
    return numbers


def assign_strengths(
    planned: Iterable[Candidate],
    strengths: Sequence[float],
    favoured: float | None = None,
    *,
    seed: int,
) -> list[Candidate]:
    """Return the candidates, each with one of `strengths`.

    Within a class, and over its sources from hard to easy, each strength gets the same part, or
    `favoured` the part `FAVOURED` and the others the rest. It depends on the plan alone.

    Args:
        seed: of the round.
    """
    if not strengths:
        return list(planned)
    if favoured in strengths:
        rest = (1 - FAVOURED) / (len(strengths) - 1)
        parts = [FAVOURED if strength == favoured else rest for strength in strengths]
    else:
        parts = [1 / len(strengths)] * len(strengths)
    ends = list(itertools.accumulate(parts))[:-1]
    start = derive_seed(seed, "strengths") / 2**63
    result = list(planned)
    by_class = sorted(range(len(result)), key=lambda i: result[i].label)
    for place, i in enumerate(by_class):
        drawn = (start + place * GOLDEN) % 1
        result[i] = replace(result[i], strength=strengths[bisect.bisect_right(ends, drawn)])
    return result
