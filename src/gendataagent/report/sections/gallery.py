"""The hard images, and the gallery: each source image beside the images made from it."""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from typing import TypeVar

from gendataagent.agent.by_hand.rules import KEEP
from gendataagent.agent.selection.words import selected_noun
from gendataagent.core.records import FROM_NOISE, RETRIEVAL, WITH_EDGES, Candidate, Scored
from gendataagent.report.charts import bar
from gendataagent.report.markup import (
    count,
    details,
    duration,
    esc,
    name,
    percent,
    plural,
    section,
    small,
)
from gendataagent.report.run_view import RoundView, RunView
from gendataagent.report.thumbnails import Thumbnails
from gendataagent.report.wording import VOG, rejection, selection_score

Item = TypeVar("Item")

HARD_IMAGES = 24
HARD_CLASSES = 20
VARIANTS_SHOWN = 6
IMAGES_A_ROUND = 56  # at most; fewer if the budget of the page runs out
CLASSES_TO_CHOOSE = 60  # beyond, the choice of one would fill the screen
NARROW = 2  # up to so many images of a source, two sources stand side by side
EXTREMES_SHARE = 0.3  # of the images of a round: highest and lowest scores side by side


def selected_title(run: RunView) -> str:
    """Return what the selected real images are called, as a title."""
    return selected_noun(run.value("selection.by")).capitalize()


def hard_images(run: RunView, thumbnails: Thumbnails) -> str:
    """Return the hardest real images of the last round, and the number selected per class."""
    with_selection = [round_ for round_ in run.rounds if round_.selected]
    if not with_selection:
        return ""
    last = with_selection[-1]
    with_image = [s for s in last.selected if last.source_image(s.source_id).is_file()]
    shown: Sequence[Scored] = with_image or last.selected
    most = HARD_IMAGES
    if with_image:
        example = last.source_image(with_image[0].source_id)
        most = thumbnails.affordable(example, HARD_IMAGES, share=0.25)
    figures = "".join(_hard_figure(run, last, scored, thumbnails) for scored in shown[:most])
    counts = Counter(scored.label for scored in last.selected).most_common()
    largest = counts[0][1]
    bars = "".join(
        f'<li><span class="label">{name(run.class_name(label))}</span>'
        f'{bar(n / largest, "real")}<span class="figure">{count(n)}</span></li>'
        for label, n in counts[:HARD_CLASSES]
    )
    rest = len(counts) - HARD_CLASSES
    more = f'<p class="quiet">and {count(rest)} more classes</p>' if rest > 0 else ""
    return section(
        "hard",
        selected_title(run),
        f'<ul class="images">{figures}</ul>'
        f'<h3>Selected from each class</h3><ul class="bars">{bars}</ul>{more}',
        lead=f"Round {last.record.round + 1} selected {plural(len(last.selected), 'real image')}. "
        + _score_explained(run),
    )


def _score_explained(run: RunView) -> str:
    score = selection_score(run.value("selection.by"))
    return f"These are the hardest; {score[0]} is {score[1]}." if score else ""


def _score(run: RunView, value: float | None) -> str:
    """Return the selection score of an image as HTML, "" if the selector gives none."""
    score = selection_score(run.value("selection.by"))
    return f'<span class="score">{score[0]} = {small(value)}</span>' if score else ""


def _hard_figure(run: RunView, round_: RoundView, scored: Scored, thumbnails: Thumbnails) -> str:
    label = run.class_name(scored.label)
    image = thumbnails.image(round_.source_image(scored.source_id), f"real image of class {label}")
    return (
        f'<li class="of-class c{scored.label}"><figure class="real" '
        f'title="{esc(scored.source_id)}">{image}<figcaption>'
        f"<b>{name(label)}</b>{_score(run, scored.score)}</figcaption></figure></li>"
    )


def gallery(run: RunView, thumbnails: Thumbnails) -> str:
    """Return one foldable part per round; the newest is open and comes first."""
    parts = []
    for left, round_ in zip(
        range(len(run.rounds), 0, -1), reversed(run.rounds), strict=True
    ):  # newest first, so that it gets its images if the budget is short
        most = IMAGES_A_ROUND
        for candidate in round_.candidates[:20]:
            example = round_.candidate_image(candidate)
            if example.is_file():
                most = thumbnails.affordable(example, IMAGES_A_ROUND, share=1 / left)
                break
        is_open = round_ is run.rounds[-1]
        parts.append(details(_round_line(round_), _round(run, round_, thumbnails, most),
                             is_open=is_open))  # fmt: skip
    noun = selected_noun(run.value("selection.by"))
    made = "a new image from both"
    if run.value("generation.start") == FROM_NOISE:
        made = "a new image from text alone: of its class, not from its pixels"
    if run.value("generation.condition") == WITH_EDGES:
        made = "a new image from the text, along the edges of the image"
    if run.value("generation.generator") == RETRIEVAL:
        made = "no image here: the images most like the source were found in a folder"
    other = run.value("generation.prompt_class") != "own"
    mixed = " The prompt names another class, and the label is shared." if other else ""
    return section(
        "gallery",
        f"From {noun} to new images",
        _choices(run) + "".join(parts),
        lead=f"Each of the {noun} gets a caption, the rewriter varies it, and the generator makes "
        f"{made}; <mark>marked</mark> words are not in the original caption.{mixed} The "
        "filter then decides which new images are used for training."
        f"{_vog_explained(run)} Newest round first.",
    )


def _choices(run: RunView) -> str:
    """Return the choice of one class and of the order, made by style rules without a script."""
    labels = sorted({s.label for round_ in run.rounds for s in round_.selected})
    if not 1 < len(labels) <= CLASSES_TO_CHOOSE:
        return ""
    rules = "".join(
        f"main:has(#only-{label}:checked) .of-class:not(.c{label}) {{ display: none; }}\n"
        for label in labels
    )
    classes = "".join(
        f'<label><input type="radio" name="only" id="only-{label}">'
        f"{name(run.class_name(label))}</label>"
        for label in labels
    )
    return (
        f"<style>{rules}</style>"
        '<fieldset class="choices"><legend>Show</legend><label><input type="radio" name="only" '
        f'id="only-all" checked>all classes</label>{classes}</fieldset>'
        '<fieldset class="choices"><legend>Sources in order of</legend><label><input type="radio" '
        'name="order" checked>class by class</label><label><input type="radio" name="order" '
        'id="hardest-first">hardest first</label></fieldset>'
    )


def _vog_explained(run: RunView) -> str:
    scored = any(c.vog is not None for round_ in run.rounds for c in round_.candidates)
    return f" {VOG}." if scored and "vog" not in run.rejected else ""


def _round_line(round_: RoundView) -> str:
    record = round_.record
    rejected = sum(record.rejected.values())
    later = f", used after epoch {record.enters}" if record.enters is not None else ""
    return (
        f"<b>Round {record.round + 1}</b> <span>after epoch {record.epoch}{later}: "
        f"{count(record.selected)} selected, {count(record.made)} generated, "
        f'<em class="kept-word">{count(record.kept)} kept</em>, '
        f'<em class="rejected-word">{count(rejected)} rejected</em>, '
        f"{duration(sum(record.seconds.values()))}</span>"
    )


def _round(run: RunView, round_: RoundView, thumbnails: Thumbnails, most: int) -> str:
    """Return the notes, some sources with their new images, and the extremes of one round."""
    notes = "".join(f"<li>{esc(note)}</li>" for note in round_.record.notes)
    said = f'<ul class="notes">{notes}</ul>' if notes else ""
    if not round_.candidates:
        return f"{said}<p>No images were generated.</p>"
    each_side = max(2, int(most * EXTREMES_SHARE / 2))
    left = most - 2 * each_side
    stories: list[str] = []
    widest = 0
    for place, sources in _by_source(round_):
        cost = 1 + min(len(sources), VARIANTS_SHOWN)
        if cost > left and stories:
            break
        left -= cost
        widest = max(widest, len(sources))
        stories.append(_source_with_variants(run, round_, sources, thumbnails, place))
    css = "stories narrow" if widest <= NARROW else "stories"
    return (
        f'{said}<div class="{css}">{"".join(stories)}</div>'
        f"{_extremes(run, round_, thumbnails, each_side)}"
    )


def _by_source(round_: RoundView) -> list[tuple[int, list[Candidate]]]:
    """Return the candidates by source, the hardest source of each class first.

    Each with its place among all sources, the hardest 0.
    """
    groups: dict[str, list[Candidate]] = {}
    for candidate in round_.candidates:
        groups.setdefault(candidate.source_id, []).append(candidate)
    hardest_first = sorted(
        groups.values(),
        key=lambda g: g[0].marginal_score if g[0].marginal_score is not None else 1.0,
    )
    placed = list(enumerate(hardest_first))
    return _class_by_class(placed, lambda pair: pair[1][0].class_of_source)


def _source_with_variants(
    run: RunView,
    round_: RoundView,
    candidates: list[Candidate],
    thumbnails: Thumbnails,
    place: int,
) -> str:
    """Return a source image with its caption, and the images made from it.

    Args:
        place: among the round's sources, the hardest 0.
    """
    first = candidates[0]
    source = thumbnails.image(
        round_.source_image(first.source_id), f"real image of class {first.class_of_source}"
    )
    label = first.label
    if first.source_class is not None:
        label = run.label_of(first.source_class)
    variants = "".join(
        _variant(run, round_, candidate, thumbnails) for candidate in candidates[:VARIANTS_SHOWN]
    )
    hidden = len(candidates) - VARIANTS_SHOWN
    more = f'<li class="quiet">and {count(hidden)} more</li>' if hidden > 0 else ""
    return (
        f'<article class="story of-class c{label}" style="--place: {place}">'
        f'<figure class="real source">{source}<figcaption>'
        f'<span class="badge real">real</span> <b>{name(first.class_of_source)}</b>'
        f"{_score(run, first.marginal_score)}"
        f"<q>{esc(first.source_caption or '')}</q></figcaption></figure>"
        f'<ul class="variants">{variants}{more}</ul></article>'
    )


def _variant(run: RunView, round_: RoundView, candidate: Candidate, thumbnails: Thumbnails) -> str:
    caption = marked_changes(candidate.source_caption or "", candidate.caption or "")
    words = f"<q>{caption}</q>" if caption else ""
    if candidate.source_class is not None:
        words = f"<b>{percent(candidate.label_share)} {name(candidate.class_name)}</b>{words}"
    return f"<li>{_made_figure(run, round_, candidate, thumbnails, words)}</li>"


def _made_figure(
    run: RunView, round_: RoundView, candidate: Candidate, thumbnails: Thumbnails, words: str
) -> str:
    """Return a new image with what the filter decided of it, and then a person."""
    of_filter = state = "kept" if candidate.kept else "rejected"
    by_hand = ""
    if decision := run.decisions.get(candidate.id):
        state = "kept" if decision == KEEP else "rejected"
        word = "kept" if decision == KEEP else "dropped"
        by_hand = f' <span class="badge {state}">{word} by hand</span>'
    image = thumbnails.image(
        round_.candidate_image(candidate),
        f"generated image of class {candidate.class_name}, {state}",
    )
    badge = "kept" if candidate.kept else name(rejection(candidate.rejected_by))
    score = "" if candidate.vog is None else f"VoG {small(candidate.vog)}"
    return (
        f'<figure class="{state}" title="{esc(candidate.prompt or candidate.id)}">{image}'
        f'<figcaption><span class="badge {of_filter}">{badge}</span>{by_hand}'
        f'<span class="score">{score}</span>{words}</figcaption></figure>'
    )


def marked_changes(before: str, after: str) -> str:
    """Return `after` as HTML with the words that are not in `before` marked."""
    old, new = before.split(), after.split()
    parts = []
    bare_old, bare_new = ([word.strip(",.;") for word in words] for words in (old, new))
    matcher = difflib.SequenceMatcher(a=bare_old, b=bare_new)
    for kind, _, _, start, end in matcher.get_opcodes():
        words = esc(" ".join(new[start:end]))
        if words:
            parts.append(words if kind == "equal" or not old else f"<mark>{words}</mark>")
    return " ".join(parts)


def _extremes(run: RunView, round_: RoundView, thumbnails: Thumbnails, most: int) -> str:
    """Return the kept and the rejected images with the most extreme VoG, side by side.

    The most extreme of each class come first: scores differ more between classes than within one.
    """
    scored = [c for c in round_.candidates if c.vog is not None]
    if not scored:
        return ""
    high_kept = run.value("filter.keep") == "high"
    ranked = sorted(scored, key=lambda c: c.vog or 0.0, reverse=high_kept)
    kept = _class_by_class([c for c in ranked if c.kept], _label)[:most]
    rejected = _class_by_class([c for c in reversed(ranked) if not c.kept], _label)[:most]
    ends = ("highest", "lowest") if high_kept else ("lowest", "highest")
    columns = "".join(
        f'<div><h4 class="{css}-word">{title}</h4><ul class="images">'
        + "".join(
            f'<li class="of-class c{c.label}">'
            f"{_made_figure(run, round_, c, thumbnails, f'<b>{name(c.class_name)}</b>')}</li>"
            for c in group
        )
        + "</ul></div>"
        for css, title, group in (
            ("kept", f"Kept, {ends[0]} VoG of each class", kept),
            ("rejected", f"Rejected, {ends[1]} VoG of each class", rejected),
        )
        if group
    )
    return f'<div class="side-by-side">{columns}</div>'


def _label(candidate: Candidate) -> int:
    return candidate.label


def _class_by_class(ranked: Sequence[Item], label_of: Callable[[Item], Hashable]) -> list[Item]:
    """Return the first of each class, then the second of each, in their order otherwise."""
    seen: Counter[Hashable] = Counter()
    turns = []
    for place, item in enumerate(ranked):
        label = label_of(item)
        turns.append((seen[label], place, item))
        seen[label] += 1
    return [item for _, _, item in sorted(turns, key=lambda turn: turn[:2])]
