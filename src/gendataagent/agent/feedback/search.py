"""Search for the strength of feedback: as hard as held-out photographs, and no harder."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

TOLERANCE = 0.02  # of mean p(y)
MAX_SCALE = 0.12  # where a guide judges badly nothing else keeps images in their class
FIRST_SCALE = 0.06
NO_GAP, MATCHED, SECOND_VIEW, STRONGEST = "no gap", "matched", "second view", "strongest"
TARGET_IMAGES = 500  # validation images whose hardness is the target, at most
MAX_PROBES = 5  # scales measured in a round, besides 0


@dataclass(frozen=True, slots=True)
class Probe:
    """One scale that was measured.

    Args:
        mean_p: mean p(y) of the images made at this scale.
        recognised: share of them recognised in a second view.
    """

    scale: float
    mean_p: float
    recognised: float


@dataclass(frozen=True, slots=True)
class Found:
    """The outcome of a search.

    Args:
        reason: NO_GAP, MATCHED, SECOND_VIEW or STRONGEST.
    """

    scale: float
    reason: str
    probes: tuple[Probe, ...]


def find_scale(
    measure: Callable[[float], Probe], *, target: float, floor: float, start: float | None = None
) -> Found:
    """Return the scale at which the mean p(y) of synthetic images falls to `target`.

    Secant steps until the target is between two scales, then bisection with interpolation. A scale
    is too strong if its images are harder than the target, or if fewer than `floor` of them are
    recognised in a second view, in which case what was changed is no longer the class. The
    strongest scale measured that is not too strong is returned.

    Args:
        measure: makes images at a scale and measures them.
        start: scale to try first; None = `FIRST_SCALE`.
    """
    probes = [measure(0.0)]
    if probes[0].mean_p <= target + TOLERANCE:
        return Found(0.0, NO_GAP, tuple(probes))
    low: Probe = probes[0]
    high: Probe | None = None
    scale = min(start or FIRST_SCALE, MAX_SCALE)
    while len(probes) <= MAX_PROBES:
        probe = measure(scale)
        probes.append(probe)
        if abs(probe.mean_p - target) <= TOLERANCE and probe.recognised >= floor:
            return Found(probe.scale, MATCHED, tuple(probes))
        if probe.mean_p < target or probe.recognised < floor:
            high = probe
        else:
            low = probe
            if scale >= MAX_SCALE:
                return Found(scale, STRONGEST, tuple(probes))
        scale = _stronger(probes[0], low, target) if high is None else _between(low, high, target)
    capped = high is not None and high.recognised < floor
    return Found(low.scale, SECOND_VIEW if capped else MATCHED, tuple(probes))


def _stronger(plain: Probe, weak: Probe, target: float) -> float:
    """Return where the line through two probes meets the target, 1.2 to 2 times as strong."""
    fallen = plain.mean_p - weak.mean_p
    times = (plain.mean_p - target) / fallen if fallen > 0 else 2.0
    return min(round(weak.scale * min(2.0, max(1.2, times)), 4), MAX_SCALE)


def _between(weak: Probe, strong: Probe, target: float) -> float:
    width = strong.scale - weak.scale
    if strong.mean_p < target < weak.mean_p:
        share = (weak.mean_p - target) / (weak.mean_p - strong.mean_p)
    else:  # too strong for the second view
        share = 0.5
    return round(weak.scale + width * min(0.8, max(0.2, share)), 4)
