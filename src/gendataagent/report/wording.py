"""The words of the page for values that records store as short keys."""

from __future__ import annotations

from gendataagent.agent.feedback import record, search
from gendataagent.agent.rejections import REJECTIONS

_SELECTION_SCORES = {
    "marginal": ("p", "the classifier's probability of the true class"),
    "margin": ("margin", "the difference between the two largest class probabilities"),
    "entropy": ("\u2212entropy", "the negative entropy of the classifier's prediction"),
}
_AIMS = {
    "entropy": "images it cannot decide on",
    "loss": "images it gets wrong",
    "margin": "the boundary to the nearest other class",
    "easy": "images it knows well (a control)",
    "random": "a random direction (a control)",
}
_REASONS = {
    record.FIXED: "set by generation.feedback_scale",
    record.UNTRAINED: "the classifier is not trained yet",
    record.EARLIER_ROUND: "before generation.feedback_first_round",
    record.NO_IMAGES: "no image without feedback could be used",
    search.NO_GAP: "already as hard as validation images",
    search.MATCHED: "as hard as validation images",
    search.SECOND_VIEW: "no stronger: a second view would lose the class",
    search.STRONGEST: "the strongest allowed; still easier than validation images",
}
_TOO_STRONG = {
    search.MATCHED: "the weakest tried is harder than validation images",
    search.SECOND_VIEW: "the weakest tried loses the class in a second view",
}
VOG = (
    "VoG, the variance of gradients, is how much the classifier's gradient with respect to the "
    "pixels varies between snapshots of the training"
)
DISPARITY = "the accuracy of the worst class divided by that of the best (1 = parity)"


def rejection(reason: str | None) -> str:
    """Return `Candidate.rejected_by` in words; an unknown reason unchanged."""
    return REJECTIONS.get(reason or "", reason or "")


def selection_score(selector: str) -> tuple[str, str] | None:
    """Return symbol and meaning of the score of `selection.by`; None if it means nothing."""
    return _SELECTION_SCORES.get(selector)


def feedback_aim(criterion: str) -> str:
    """Return what a criterion of `generation.feedback` moves images towards; another unchanged."""
    return _AIMS.get(criterion, criterion)


def feedback_reason(reason: str, *, steered: bool) -> str:
    """Return `FeedbackRecord.reason` in words; an unknown reason unchanged."""
    words = _REASONS if steered else _REASONS | _TOO_STRONG
    return words.get(reason, reason)


def rewriter_outcome(outcome: str) -> str:
    """Return a key of `RoundRecord.rewriting` in words."""
    if outcome == "taken":
        return "accepted"
    return outcome.replace("refused: ", "reply rejected: ", 1)
