"""The page of a review: filters and a frame, which `review.js` fills."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from gendataagent.report.html_document import document, own_file
from gendataagent.report.markup import esc, name
from gendataagent.report.review.candidates import (
    BY_HAND,
    IN_POOL,
    KEPT_BY_RUN,
    NOT_IN_POOL,
    REASON,
    UNDECIDED_YET,
    Candidates,
)
from gendataagent.report.wording import rejection, selection_score

_POLICY = (
    "default-src 'none'; img-src 'self' data:; style-src 'unsafe-inline'; script-src 'self'; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'"
)
_KEYS = (("← → ↑ ↓", "move"), ("K", "keep"), ("D", "drop"), ("U", "undo"), ("Enter", "enlarge"))


def page(candidates: Candidates, folder: Path, token: str) -> str:
    """Return the page as HTML.

    Args:
        token: for the script, which sends it with each decision.
    """
    title = folder.resolve().name
    keys = "".join(f"<span><kbd>{key}</kbd> {what}</span>" for key, what in _KEYS)
    problems = "".join(f'<p class="banner">{esc(problem)}</p>' for problem in candidates.problems)
    body = (
        f'<details id="filter-box" open><summary>Filter</summary>'
        f'<form id="filters" class="filters" data-token="{esc(token)}" '
        f'data-score="{esc(_source_score(candidates)[0])}">{_filters(candidates)}</form></details>'
        '<div class="bar"><p id="found" role="status"></p>'
        '<button type="button" id="undo" disabled>Undo</button>'
        '<button type="button" id="drop-all" class="drop" disabled>Drop all of these</button></div>'
        '<p id="message" role="alert" hidden></p>'
        '<ol id="candidates" aria-label="Candidates"></ol>'
        '<div class="pager"><button type="button" id="previous">Previous</button>'
        '<span id="where"></span><button type="button" id="next">Next</button></div>'
        '<dialog id="large" aria-label="One candidate, enlarged"></dialog>'
        '<dialog id="sure" aria-labelledby="sure-words"><p id="sure-words"></p>'
        '<div class="buttons"><button type="button" value="no">Cancel</button>'
        '<button type="button" value="yes" class="drop">Drop them</button></div></dialog>'
    )
    return document(
        title=f"Review of {title}",
        header=f'<p class="eyebrow">GenDataAgent · {name(title)}</p><h1>Review</h1>'
        '<p class="lead">Each new image beside its source. Keep or drop it by '
        "hand, whatever the filter said: saved at once, used by the run from its next epoch on and "
        f'by every export.</p><p class="keys">{keys}</p><p id="counts" class="counts"></p>',
        body=body,
        navigation=(),
        footer="Decisions are lines of review/decisions.jsonl in the run folder.",
        banner=problems,
        style=own_file("review/review.css"),
        policy=_POLICY,
        script="review.js",
    )


def _filters(candidates: Candidates) -> str:
    vog = [("vog", "VoG (filter)")] if candidates.has_vog else []
    symbol, meaning = _source_score(candidates)
    rounds = [(str(number), f"round {number + 1}") for number in candidates.rounds]
    verdicts = [
        ("", "all"),
        (IN_POOL, "kept now"),
        (NOT_IN_POOL, "not kept now"),
        (BY_HAND, "decided by hand"),
        (UNDECIDED_YET, "not decided by hand"),
        (KEPT_BY_RUN, "kept by the filter"),
        *((REASON + reason, rejection(reason)) for reason in candidates.reasons),
    ]
    sorts = [
        ("made", "as made"),
        ("low", "lowest score first"),
        ("high", "highest score first"),
        ("class", "by class"),
    ]
    classes = [("", "all"), *((str(label), class_) for label, class_ in candidates.classes)]
    scores = [*vog, ("source", f"{symbol} of the source")]
    return (
        _select("class", "Class", classes)
        + _select("verdict", "Outcome", verdicts)
        + _select("round", "Round", [("", "all"), *rounds])
        + '<label>Source<input name="source" type="search" placeholder="part of its id"></label>'
        + _select("score", "Score", scores, title=meaning)
        + '<div class="between"><label>from<input name="low" inputmode="decimal"></label>'
        '<label>to<input name="high" inputmode="decimal"></label></div>'
        + _select("sort", "Order", sorts)
        + '<button type="reset">Clear the filter</button>'
    )


def _source_score(candidates: Candidates) -> tuple[str, str]:
    return selection_score(candidates.config.selection.by) or ("score", "the selection's score")


def _select(field: str, label: str, options: Iterable[tuple[str, str]], title: str = "") -> str:
    shown = "".join(f'<option value="{esc(value)}">{esc(text)}</option>' for value, text in options)
    return f'<label title="{esc(title)}">{label}<select name="{field}">{shown}</select></label>'
