"""What the filter did: scores of kept and dropped images, and what was kept of each class."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from gendataagent.core.record_table import RecordTable
from gendataagent.core.records import Candidate
from gendataagent.report.charts import stacked_bar
from gendataagent.report.histograms import Sample, histograms
from gendataagent.report.markup import count, esc, name, percent, section, small
from gendataagent.report.run_view import RoundView, RunView
from gendataagent.report.wording import rejection

CLASSES_SHOWN = 60
_TAIL = 0.99  # the largest scores share the last bar, so that a few do not flatten the rest


def filtering(run: RunView) -> str:
    """Return the scores of the last scored round, and kept and rejected images of each class."""
    if not run.made:
        return ""
    scores = _scores(run)
    end = "lowest" if run.value("filter.keep") == "high" else "highest"
    lead = (
        "The filter compares images of one class with each other, so each class has its own "
        f"cut-off: the {end} score kept."
    )
    body = scores + _by_class(run) + _by_hand(run)
    return section("filter", "What was kept", body, lead=lead if scores else "") if body else ""


def _by_hand(run: RunView) -> str:
    """Return what was decided by hand, which the figures above leave out."""
    if not run.by_hand:
        return ""
    return (
        f"<p>By hand, after that: {esc(run.by_hand.words)} (<code>gendataagent review</code>).</p>"
    )


def _columns(round_: RoundView, *names: str) -> list[tuple[object, ...]]:
    """Return fields of each candidate; a round may have a million."""
    candidates: Sequence[Candidate] = round_.candidates
    if isinstance(candidates, RecordTable):
        columns = [candidates.column(one) for one in names]
        return list(zip(*columns, strict=True))
    return [tuple(getattr(candidate, one) for one in names) for candidate in candidates]


def _scores(run: RunView) -> str:
    """Return the distribution of VoG over kept and dropped images of the newest scored round."""
    for round_ in reversed(run.rounds):
        kept: list[float] = []
        dropped: list[float] = []
        for vog, rejected_by in _columns(round_, "vog", "rejected_by"):
            if isinstance(vog, float):
                (kept if rejected_by is None else dropped).append(vog)
        if kept or dropped:
            both = sorted(kept + dropped)
            return '<div class="charts">{}</div>'.format(
                histograms(
                    f"VoG of the images of round {round_.record.round + 1}",
                    (
                        Sample(label=f"kept, {count(len(kept))} images", css="kept",
                               values=tuple(kept)),
                        Sample(label=f"dropped, {count(len(dropped))} images", css="rejected",
                               values=tuple(dropped)),
                    ),
                    high=both[int(_TAIL * (len(both) - 1))],
                    x_label="VoG",
                )
            )  # fmt: skip
    return ""


def _by_class(run: RunView) -> str:
    """Return a bar for each class: kept, and rejected by reason."""
    counts: dict[int, dict[str | None, int]] = defaultdict(lambda: defaultdict(int))
    ends: dict[int, float] = {}
    last_scored = _last_scored(run)
    keeps_high = run.value("filter.keep") == "high"
    for round_ in run.rounds:
        for label, vog, rejected_by in _columns(round_, "label", "vog", "rejected_by"):
            assert isinstance(label, int)
            counts[label][str(rejected_by) if rejected_by is not None else None] += 1
            if round_ is last_scored and rejected_by is None and isinstance(vog, float):
                ends[label] = (min if keeps_high else max)(ends.get(label, vog), vog)
    if not counts:  # their records are lost
        return ""
    reasons = sorted({reason for of_class in counts.values() for reason in of_class if reason})
    css = {reason: f"stage stage-{5 + min(i, 4)}" for i, reason in enumerate(reasons)}
    largest = max(sum(of_class.values()) for of_class in counts.values())
    ranked = sorted(counts, key=lambda label: (-counts[label][None], label))
    items = ""
    for label in ranked[:CLASSES_SHOWN]:
        of_class = counts[label]
        made, kept = sum(of_class.values()), of_class[None]
        parts = [("kept", float(kept))]
        parts += [(css[reason], float(of_class[reason])) for reason in reasons]
        spoken = f"{run.class_name(label)}: {kept} of {made} kept"
        cut_off = f", cut-off {small(ends[label])}" if label in ends else ""
        items += (
            f'<li><span class="label">{name(run.class_name(label))}</span>'
            f"{stacked_bar(parts, largest, spoken)}"
            f'<span class="figure">{count(kept)} of {count(made)}, {percent(kept / made)}'
            f"{cut_off}</span></li>"
        )
    hidden = len(ranked) - CLASSES_SHOWN
    more = f'<p class="quiet">and {count(hidden)} more classes</p>' if hidden > 0 else ""
    legend = '<li><span class="swatch kept"></span>kept</li>' + "".join(
        f'<li><span class="swatch {css[reason]}"></span>{name(rejection(reason))}</li>'
        for reason in reasons
    )
    newest = f"; cut-offs of round {last_scored.record.round + 1}" if last_scored and ends else ""
    return (
        f"<h3>By class, all rounds{newest}</h3>"
        f'<ul class="legend">{legend}</ul><ul class="bars kept-rows">{items}</ul>{more}'
    )


def _last_scored(run: RunView) -> RoundView | None:
    for round_ in reversed(run.rounds):
        if any(vog is not None for (vog,) in _columns(round_, "vog")):
            return round_
    return None
