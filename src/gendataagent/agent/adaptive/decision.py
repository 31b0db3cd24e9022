"""Which images of a round are kept, by their gain on validation; no torch.

The knobs are decided in turn: strength, then share among the images of the best strength, then the
filter among the rest. So the last probe measures exactly the images that will be trained on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from gendataagent.agent.adaptive.probes import DROP_SHARE, NONE, SHARE, STRENGTH, Probe, best_option
from gendataagent.agent.filtering import FilterScores, drop
from gendataagent.config import RunConfig
from gendataagent.core.records import Candidate

HURTS_VALIDATION = "adaptive: hurts on validation"
OTHER_STRENGTH, OTHER_SHARE = "adaptive: strength", "adaptive: share"
ONE_SIDED_5 = 1.64  # standard errors

Measure = Callable[[str, float | None, Sequence[Candidate]], Probe]
"""Probes the candidates as the images of one option of a knob."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What a round keeps, and why.

    Args:
        judged: the usable candidates in order, rejected ones with their reason.
        notes: sentences for the reader.
        values: the chosen strength, share and drop_share, each if it was probed; gain and
            standard_error of the kept images.
    """

    judged: tuple[Candidate, ...] = ()
    notes: tuple[str, ...] = ()
    values: Mapping[str, float | None] = field(default_factory=dict)


def decide(
    usable: Sequence[Candidate],
    scores: FilterScores,
    config: RunConfig,
    *,
    min_share_of: Mapping[str, float | None],
    earlier: Sequence[Probe],
    measure: Measure,
) -> Decision:
    """Return what a round keeps of its images.

    Args:
        scores: of the filter; without scores every image passes.
        min_share_of: source id -> the smallest share that selects it.
        earlier: probes of earlier rounds.
    """
    adaptive = config.adaptive
    scored = drop(usable, scores, replace(config.filter, drop_share=0.0))  # records the scores
    judged = {candidate.id: candidate for candidate in scored}
    values: dict[str, float | None] = {}
    left, best = list(scored), measure(NONE, None, [])

    def settle(knob: str, options: Mapping[float | None, list[Candidate]]) -> list[Candidate]:
        nonlocal best
        now = [measure(knob, option, taken) for option, taken in options.items() if taken]
        chosen = best_option(earlier, now, knob)
        if chosen is None:  # all diverged
            best = replace(best, gain=None, standard_error=None)
            return []
        values[knob], best = chosen.option, chosen
        return options[chosen.option]

    if adaptive.strengths:
        left = settle(STRENGTH, {None: left, **_by_strength(left, adaptive.strengths)})
        _refuse(judged, left, OTHER_STRENGTH)
    if adaptive.shares and left:
        least = {c.id: min_share_of[c.source_id] or 1.0 for c in left}
        left = settle(SHARE, {s: [c for c in left if least[c.id] <= s] for s in adaptive.shares})
        _refuse(judged, left, OTHER_SHARE)
    if left:
        options = _by_drop_share(left, [c.id for c in usable], scores, config)
        kept = {c.id for c in settle(DROP_SHARE, {d: _kept(part) for d, part in options.items()})}
        refused = next(iter(options.values())) if not kept else options[values[DROP_SHARE]]
        judged.update((c.id, c) for c in refused)
    return _concluded(judged, values, best, scores.note)


def _by_strength(
    candidates: Sequence[Candidate], strengths: Iterable[float]
) -> dict[float | None, list[Candidate]]:
    return {s: [c for c in candidates if c.strength == s] for s in strengths}


def _by_drop_share(
    left: Sequence[Candidate], ids: Sequence[str], scores: FilterScores, config: RunConfig
) -> dict[float | None, list[Candidate]]:
    """Return drop share -> the candidates as the filter accepts or rejects them."""
    if scores.scores_N is None:
        return {0.0: list(left)}
    row_of = {id_: row for row, id_ in enumerate(ids)}
    rows = np.array([row_of[candidate.id] for candidate in left])
    those = replace(scores, scores_N=np.asarray(scores.scores_N)[rows])
    tried = config.adaptive.drop_shares or (config.filter.drop_share,)
    return {d: drop(left, those, replace(config.filter, drop_share=d)) for d in tried}


def _kept(candidates: Iterable[Candidate]) -> list[Candidate]:
    return [candidate for candidate in candidates if candidate.kept]


def _refuse(judged: dict[str, Candidate], left: Iterable[Candidate], reason: str) -> None:
    """Reject with `reason` every accepted candidate that is not in `left`."""
    stay = {candidate.id for candidate in left}
    for id_, candidate in judged.items():
        if candidate.kept and id_ not in stay:
            judged[id_] = replace(candidate, rejected_by=reason)


def _concluded(
    judged: Mapping[str, Candidate], values: dict[str, float | None], best: Probe, note: str
) -> Decision:
    """Return the decision; all images are rejected if training does worse with them."""
    hurts = best.gain is None or best.gain < -ONE_SIDED_5 * (best.standard_error or 0.0)
    verdicts = list(judged.values())
    if hurts:
        verdicts = [replace(c, rejected_by=HURTS_VALIDATION) for c in verdicts]
    values |= {"gain": best.gain, "standard_error": best.standard_error}
    notes = tuple(filter(None, [note, _note(values, best, hurts=hurts)]))
    return Decision(judged=tuple(verdicts), notes=notes, values=values)


def _note(values: Mapping[str, float | None], best: Probe, *, hurts: bool) -> str:
    if best.gain is None:
        return "Every image of this round was rejected: training with them diverged."
    figure = f"{abs(best.gain):.4f} ± {best.standard_error:.4f}"
    side = "below" if best.gain >= 0 else "above"
    effect = f"validation log-loss {figure} {side} that without synthetic images"
    if hurts:
        return f"Every image of this round was rejected: {effect}."
    names = {STRENGTH: "strength", SHARE: "selection share", DROP_SHARE: "drop share"}
    chosen = ", ".join(
        f"{name} {'mixed' if values[knob] is None else format(values[knob], 'g')}"
        for knob, name in names.items()
        if knob in values
    )
    return f"Chosen on validation: {chosen} ({effect})."
