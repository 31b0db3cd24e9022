"""Feedback from the classifier inside the sampler: how strong, and what it changed."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from gendataagent.agent.feedback.hardness import Hardness
from gendataagent.agent.feedback.opinion import SecondOpinion
from gendataagent.agent.feedback.record import FeedbackRecord
from gendataagent.core.records import Candidate
from gendataagent.report.histograms import Sample, histograms
from gendataagent.report.markup import (
    MISSING,
    count,
    details,
    esc,
    name,
    number,
    percent,
    plural,
    section,
    table,
)
from gendataagent.report.run_view import RoundView, RunView
from gendataagent.report.thumbnails import Thumbnails
from gendataagent.report.wording import feedback_aim, feedback_reason

PAIRS_SHOWN = 8
_WITHOUT, _WITH, _SOURCES = "without feedback", "with feedback", "sources"


def feedback(run: RunView, thumbnails: Thumbnails) -> str:
    """Return the section on feedback; "" if no round has a record of it."""
    rounds = [(one, one.feedback) for one in run.rounds if one.feedback is not None]
    if not rounds:
        return ""
    records = [record for _, record in rounds]
    criterion = esc(run.value("generation.feedback"))
    parts = (
        _rounds_table(rounds),
        _charts(records),
        _pairs(rounds, thumbnails),
        _search(rounds),
        _agreement(run.second_opinion),
    )
    return section(
        "feedback",
        "Feedback",
        "".join(parts),
        lead=f"At each denoising step the classifier in training moves the image towards "
        f"{feedback_aim(criterion)}. The scale is the length of each move. Measured on a few "
        "images of each round, made without and with feedback from the same seeds. p is the "
        "classifier's probability of the true class: the lower, the harder the image.",
    )


def _rounds_table(rounds: Sequence[tuple[RoundView, FeedbackRecord]]) -> str:
    rows = [
        [
            f"Round {one.record.round + 1}",
            esc(record.criterion) if record.scale else "none",
            f"{record.scale:g}" if record.scale else MISSING,
            _mean_p(record.sources),
            _mean_p(record.plain),
            _mean_p(record.guided) if record.scale else MISSING,
            number(record.target, 2),
            esc(feedback_reason(record.reason, steered=bool(record.scale))),
        ]
        for one, record in rounds
    ]
    head = ["round", "feedback", "scale", "p, sources", "p, without", "p, with", "target p", "why"]
    return table(head, rows, caption="Feedback of each round", numeric=False)


def _mean_p(hardness: Hardness | None) -> str:
    if hardness is None or not hardness.p_true:
        return MISSING
    return number(sum(hardness.p_true) / len(hardness.p_true), 2)


def _charts(records: Sequence[FeedbackRecord]) -> str:
    """Return the histograms over all rounds that were measured."""
    measured = [record for record in records if record.plain is not None]
    steered = [record for record in measured if record.scale]

    def samples(values: str) -> list[Sample]:
        return [
            Sample(label=label, css=css, values=_pooled(hardness, values))
            for label, css, hardness in (
                (_SOURCES, "real", [record.sources for record in measured]),
                (_WITHOUT, "plain", [record.plain for record in measured]),
                (_WITH, "agent", [record.guided for record in steered]),
            )
        ]

    entropy = samples("entropy")
    highest = max((v for one in entropy for v in one.values if math.isfinite(v)), default=0.0)
    drawn = histograms(
        "Probability of the true class", samples("p_true"), high=1.0, x_label="p"
    ) + histograms("Entropy of the prediction", entropy, high=highest, x_label="nats")
    return f'<h3>How hard the images are</h3><div class="charts">{drawn}</div>' if drawn else ""


def _pooled(hardness: Sequence[Hardness | None], values: str) -> tuple[float, ...]:
    return tuple(value for one in hardness if one is not None for value in getattr(one, values))


def _pairs(rounds: Sequence[tuple[RoundView, FeedbackRecord]], thumbnails: Thumbnails) -> str:
    """Return images without and with feedback from the same seed, of different classes."""
    newest_first = reversed(rounds)
    found = _spread([pair for one, record in newest_first for pair in _pairs_of(one, record)])
    if not found:
        return ""
    one, candidate, _ = found[0]
    most = thumbnails.affordable(one.candidate_image(candidate), 2 * PAIRS_SHOWN, share=0.2) // 2
    figures = "".join(_pair(*pair, thumbnails) for pair in found[:most])
    return (
        "<h3>The same seed without and with feedback</h3>"
        '<p class="quiet">The first measured image of each class, newest round first; not selected '
        "by its change.</p>"
        f'<ul class="pairs">{figures}</ul>'
    )


Pair = tuple[RoundView, Candidate, tuple[float, float] | None]
"""Round, candidate, and p of its class without and with feedback where known."""


def _pairs_of(one: RoundView, record: FeedbackRecord) -> Iterator[Pair]:
    """Yield the pairs of a round whose two images are on disk."""
    if not record.scale:
        return
    of_id = {candidate.id: candidate for candidate in one.candidates}
    changes = _changes(record)
    for id_ in record.candidates:
        candidate = of_id.get(id_)
        if candidate is None or not one.candidate_image(candidate).is_file():
            continue
        if one.plain_image(candidate).is_file():
            yield one, candidate, changes.get(id_)


def _changes(record: FeedbackRecord) -> dict[str, tuple[float, float]]:
    """Return id -> p without and with feedback.

    {} where some probes could not be measured, since the others are then not known by their ids.
    """
    plain, guided, ids = record.plain, record.guided, record.candidates
    if plain is None or guided is None or not len(plain.p_true) == len(guided.p_true) == len(ids):
        return {}
    return dict(zip(ids, zip(plain.p_true, guided.p_true, strict=True), strict=True))


def _spread(pairs: Sequence[Pair]) -> list[Pair]:
    """Return at most `PAIRS_SHOWN` pairs, the first of each class before any second."""
    turns: dict[int, int] = {}
    ranked = []
    for place, pair in enumerate(pairs):
        label = pair[1].label
        ranked.append((turns.get(label, 0), place, pair))
        turns[label] = turns.get(label, 0) + 1
    return [pair for _, _, pair in sorted(ranked, key=lambda item: item[:2])][:PAIRS_SHOWN]


def _pair(
    one: RoundView,
    candidate: Candidate,
    change: tuple[float, float] | None,
    thumbnails: Thumbnails,
) -> str:
    images = "".join(
        f"<div>{thumbnails.image(path, f'image of class {candidate.class_name}, {word} feedback')}"
        f"<span>{word}</span></div>"
        for word, path in (
            ("without", one.plain_image(candidate)),
            ("with", one.candidate_image(candidate)),
        )
    )
    figures = "" if change is None else f"p = {change[0]:.2f} → {change[1]:.2f}, "
    return (
        f'<li><figure title="{esc(candidate.prompt or candidate.id)}"><div class="two">{images}'
        f"</div><figcaption><b>{name(candidate.class_name)}</b>"
        f'<span class="score">{figures}round {one.record.round + 1}</span></figcaption>'
        "</figure></li>"
    )


def _search(rounds: Sequence[tuple[RoundView, FeedbackRecord]]) -> str:
    """Return every scale that was measured."""
    rows = [
        [
            f"Round {one.record.round + 1}",
            f"{probe.scale:g}",
            number(probe.mean_p, 2),
            percent(probe.recognised),
            "chosen" if probe.scale == record.scale else "",
        ]
        for one, record in rounds
        for probe in record.probes
    ]
    if not rows:
        return ""
    floors = ", ".join(
        f"{percent(record.floor)} in round {one.record.round + 1}"
        for one, record in rounds
        if record.floor is not None
    )
    least = f" A scale at which less than a floor is recognised is too strong: {floors}."
    explained = (
        '<p class="quiet">Recognised: share of the images whose class is the likeliest in a second '
        f"view, the enlarged centre.{least if floors else ''}</p>"
    )
    head = ["round", "scale", "mean p", "recognised", '<span class="unseen">chosen</span>']
    return details(
        "Steps of the search for the scale",
        explained + table(head, rows, caption="Scales that were measured"),
    )


def _agreement(opinion: SecondOpinion | None) -> str:
    """Return what the baseline's classifier says of the same images."""
    if opinion is None or not opinion.rounds:
        return ""
    rows = [
        [
            f"Round {one.round + 1}",
            count(one.images),
            *(number(part.p_true, 2) for part in (one.sources, one.plain, one.guided)),
            *(percent(part.recognised) for part in (one.sources, one.plain, one.guided)),
        ]
        for one in opinion.rounds
    ]
    head = ["round", "images", "p, sources", "p, without", "p, with",
            "recognised, sources", "recognised, without", "recognised, with"]  # fmt: skip
    guided = plural(len(rows), "guided round")
    return (
        "<h3>Agreement of a second network</h3>"
        '<p class="quiet">The final classifier of the baseline, trained without synthetic images, '
        f"on the images of {guided}. It steered none of them: where its p falls too, the images "
        "are harder for others than the guide. It has seen the sources in training.</p>"
        + table(head, rows, caption="The baseline's classifier on the same images")
    )
