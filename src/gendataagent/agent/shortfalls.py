"""What a round had to do without: said where it is so much that the method is hardly at work."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from gendataagent.core.protocols import Rewrite
from gendataagent.core.records import SHORTFALL, Candidate
from gendataagent.generation.class_mentions import names_another_class

SHARE_UNMENTIONED = 0.25
_REASONS_NAMED = 3
_PROBE_REASON = "adaptive"


def shortfalls(
    judged: Sequence[Candidate],
    rewrites: Iterable[tuple[str, Rewrite]],
    class_names: Sequence[str],
    *,
    captioned: bool,
    rewritten: bool,
    filter_name: str,
) -> tuple[str, ...]:
    """Return a sentence for each of captions, rewrites and images of which more than
    `SHARE_UNMENTIONED` were missing, dropped or replaced. (Missing scores have a note of the
    filter.)

    Args:
        judged: every candidate of a round, with the reason it was rejected for.
        rewrites: candidate id and the rewriter's answer.
        captioned, rewritten: whether the settings ask for captions and for rewrites at all.
        filter_name: `filter.by`; what it or a probe rejects is no shortfall.
    """
    notes = []
    if captioned:
        notes.append(_of_captions(judged, class_names))
    if rewritten:
        notes.append(_of_rewrites(judged, rewrites, class_names))
    notes.append(_of_images(judged, filter_name))
    return tuple(note for note in notes if note)


def _of_captions(judged: Sequence[Candidate], class_names: Sequence[str]) -> str:
    sources = {candidate.source_id: candidate for candidate in judged}.values()
    lost: Counter[str] = Counter()
    example = ""
    for candidate in sources:
        caption = (candidate.source_caption or "").strip()
        if not caption:
            lost["empty"] += 1
        elif other := names_another_class(caption, candidate.class_name, class_names):
            lost["naming another class"] += 1
            example = example or (
                f'. For example "{caption}" names {other!r} where the class is '
                f"{candidate.class_name!r}; rename the classes if captions use their names "
                "for something else"
            )
    return _sentence("captions", "could not be used", lost, len(sources), example)


def _of_rewrites(
    judged: Sequence[Candidate],
    rewrites: Iterable[tuple[str, Rewrite]],
    class_names: Sequence[str],
) -> str:
    lost: Counter[str] = Counter()
    reasons: Counter[str] = Counter()
    class_of = {candidate.id: candidate.class_name for candidate in judged}
    asked = 0
    for candidate_id, rewrite in rewrites:
        if candidate_id not in class_of:
            continue
        asked += 1
        reasons.update(rewrite.refusals)
        if rewrite.by:
            lost[f"replaced by {rewrite.by}"] += 1
        elif not rewrite.text.strip():
            lost["empty"] += 1
        elif names_another_class(rewrite.text, class_of[candidate_id], class_names):
            lost["dropped for naming another class"] += 1
    why = ", ".join(f"{reason} ({n})" for reason, n in reasons.most_common(_REASONS_NAMED))
    hint = (
        f". Replies were refused as: {why}; they are counted in the round's record" if why else ""
    )
    return _sentence("rewrites", "were not used", lost, asked, hint)


def _of_images(judged: Sequence[Candidate], filter_name: str) -> str:
    lost = Counter(
        c.rejected_by
        for c in judged
        if c.rejected_by not in (None, filter_name)
        and not str(c.rejected_by).startswith(_PROBE_REASON)
    )
    named = Counter({str(reason): n for reason, n in lost.items()})
    return _sentence("images", "were rejected before the filter", named, len(judged))


def _sentence(what: str, happened: str, lost: Counter[str], total: int, hint: str = "") -> str:
    if lost.total() <= SHARE_UNMENTIONED * total:
        return ""
    parts = ", ".join(f"{n} {reason}" for reason, n in lost.most_common(_REASONS_NAMED))
    counted = f"{lost.total()} of {total} ({parts})"
    return f"{SHORTFALL} the {what} of this round {happened}: {counted}{hint}"
