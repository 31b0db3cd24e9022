"""Which candidates a person may keep or drop, and what follows from it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from gendataagent.agent.rejections import BY_HAND, REJECTIONS
from gendataagent.core.records import Candidate

DROP, KEEP, UNDECIDED = "drop", "keep", "none"
_PROBES = "adaptive: "  # begins the reasons of [adaptive]
_COPY = "with it in training, the result on these images would be better than it is"
_NEVER: Mapping[str, str] = {
    "repeats-test-image": f"it is a near-duplicate of a test image: {_COPY}",
    "repeats-validation-image": f"it is a near-duplicate of a validation image: {_COPY}",
    "black-image": "it is black",
    "flagged-by-safety-checker": "the safety checker has blackened it",
    "no-image": "there is no image",
}


def why_not_keepable(rejected_by: str | None, filter_name: str) -> str | None:
    """Return why a rejected image cannot be kept by hand; None if it can.

    Only what the filter or [adaptive] dropped can: these images were compared with the held-out
    ones before, others were not.

    Args:
        rejected_by: see `Candidate.rejected_by`.
        filter_name: `filter.by` of the run.
    """
    if rejected_by is None or rejected_by == filter_name or rejected_by.startswith(_PROBES):
        return None
    early = (
        f"it was rejected ({REJECTIONS.get(rejected_by, rejected_by)}) before it was compared "
        "with the test images"
    )
    return _NEVER.get(rejected_by, early)


def decided(candidate: Candidate, decision: str | None) -> Candidate:
    """Return a judged candidate as it is after a decision: kept, or with the reason why not."""
    if decision == DROP and candidate.kept:
        return replace(candidate, rejected_by=BY_HAND)
    return replace(candidate, rejected_by=None) if decision == KEEP else candidate


@dataclass(frozen=True, slots=True)
class HandCounts:
    """What decisions change.

    Args:
        dropped: images that the run had kept.
        kept: images that the run had dropped.
    """

    dropped: int = 0
    kept: int = 0

    @classmethod
    def of(cls, candidates: Iterable[Candidate], decisions: Mapping[str, str]) -> HandCounts:
        """Count over judged candidates, as they were before the decisions."""
        changed = [c.kept for c, decision in _with(candidates, decisions)
                   if decided(c, decision).kept is not c.kept]  # fmt: skip
        return cls(dropped=sum(changed), kept=len(changed) - sum(changed))

    def __bool__(self) -> bool:
        return bool(self.dropped or self.kept)

    @property
    def words(self) -> str:
        """The counts as part of a sentence."""
        return (
            f"{self.dropped:,} dropped that the run had kept, {self.kept:,} kept that it had "
            "dropped"
        )


def _with(
    candidates: Iterable[Candidate], decisions: Mapping[str, str]
) -> Iterator[tuple[Candidate, str]]:
    for candidate in candidates:
        if decision := decisions.get(candidate.id):
            yield candidate, decision
