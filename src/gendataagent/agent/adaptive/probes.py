"""Outcomes of probes, on disk and over rounds; no torch."""

from __future__ import annotations

import contextlib
import math
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from gendataagent.core.journal import read_journal
from gendataagent.core.rows import RowError, fit

NONE, STRENGTH, SHARE, DROP_SHARE = "none", "strength", "share", "drop_share"
PROBES_FILE = "probes.jsonl"


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """Validation loss after a few training steps with the images of one option.

    Args:
        knob: "none" (no images of this round at all), "strength", "share" or "drop_share".
        option: the value tried; None for "none", and for all strengths mixed.
        images: synthetic images of this round that it trains on.
        loss: mean log-loss on the validation images; None where the training diverged.
        gain: loss with "none" minus this loss; None as `loss`.
        standard_error: of the gain, over the validation images (paired); None as `loss`.
        seconds: wall-clock; 0 if the same images were probed before.
    """

    knob: str
    option: float | None
    images: int
    loss: float | None
    gain: float | None
    standard_error: float | None
    seconds: float

    def to_json(self) -> dict[str, Any]:
        """Return the fields as plain JSON values."""
        return asdict(self)


def read_probes(path: Path) -> list[Probe]:
    """Return the probes of a round so far; lines that are torn or damaged are not counted."""
    found = []
    for row in read_journal(path):
        with contextlib.suppress(RowError):
            found.append(fit(Probe, row))
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class MeanGain:
    """The mean of an option's gains over rounds, and the standard error of that mean."""

    gain: float
    standard_error: float


def mean_gains(probes: Iterable[Probe], knob: str) -> dict[float | None, MeanGain]:
    """Return option -> mean gain over the rounds in which it was tried and did not diverge.

    Each gain is against "none" of the same round, so effects common to a round cancel.
    """
    gains: dict[float | None, list[tuple[float, float]]] = defaultdict(list)
    for probe in probes:
        if probe.knob == knob and probe.gain is not None:
            gains[probe.option].append((probe.gain, probe.standard_error or 0.0))
    return {
        option: MeanGain(
            gain=sum(gain for gain, _ in values) / len(values),
            standard_error=math.sqrt(sum(error**2 for _, error in values)) / len(values),
        )
        for option, values in gains.items()
    }


def best_option(earlier: Iterable[Probe], now: Iterable[Probe], knob: str) -> Probe | None:
    """Return the probe of the best option of this round; None if all of them diverged.

    Of the options whose mean gain over the rounds is within one standard error of the best one's,
    the one with most images wins (the one-standard-error rule: Breiman et al., "Classification and
    Regression Trees", 1984). A few steps understate the value of many different images, so images
    are given up only for a gain beyond noise.
    """
    tried = [probe for probe in now if probe.knob == knob and probe.gain is not None]
    if not tried:
        return None
    means = mean_gains([*earlier, *tried], knob)
    best = max((means[probe.option] for probe in tried), key=lambda mean: mean.gain)
    as_good = [p for p in tried if means[p.option].gain >= best.gain - best.standard_error]
    return max(as_good, key=lambda probe: (probe.images, means[probe.option].gain))
