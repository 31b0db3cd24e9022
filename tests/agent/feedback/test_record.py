"""What a round's line says of its feedback."""

from __future__ import annotations

import pytest

from gendataagent.agent.feedback.record import (
    EARLIER_ROUND,
    FIXED,
    NO_IMAGES,
    UNTRAINED,
    FeedbackRecord,
)
from gendataagent.agent.feedback.search import MATCHED, NO_GAP, SECOND_VIEW, STRONGEST, Probe

PROBES = (Probe(0.0, 0.56, 0.8), Probe(0.06, 0.345, 0.75))


def sentence(reason: str, *, scale: float, target: float | None = None) -> str:
    record = FeedbackRecord(
        criterion="loss", scale=scale, reason=reason, target=target, probes=PROBES
    )
    return record.sentence


def test_it_says_what_changed() -> None:
    changed = "Feedback by loss, scale 0.06, changes p(true class) of synthetic images from 0.56 to"
    assert sentence(FIXED, scale=0.06) == f"{changed} 0.34."
    matched = sentence(MATCHED, scale=0.06, target=0.35)
    assert matched == f"{changed} 0.34 (target: 0.35)."
    assert "no stronger because a second view" in sentence(SECOND_VIEW, scale=0.06, target=0.2)
    assert sentence(STRONGEST, scale=0.06).endswith("the strongest allowed.")


@pytest.mark.parametrize(
    ("reason", "words"),
    [
        (NO_IMAGES, "no image without feedback could be used"),
        (NO_GAP, "already as hard"),
        (SECOND_VIEW, "loses the class in a second view"),
        (MATCHED, "harder than validation images"),
    ],
)
def test_it_says_why_there_is_none(reason: str, words: str) -> None:
    said = sentence(reason, scale=0.0, target=0.5)
    assert said.startswith("No feedback: ")
    assert said.endswith(".")
    assert words in said


@pytest.mark.parametrize("reason", [UNTRAINED, EARLIER_ROUND])
def test_rounds_that_never_have_feedback_say_nothing(reason: str) -> None:
    assert sentence(reason, scale=0.0) == ""
