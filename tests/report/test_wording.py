"""Every short key that the code writes has words on the page."""

from __future__ import annotations

import pytest

from gendataagent.agent.adaptive.decision import HURTS_VALIDATION, OTHER_SHARE, OTHER_STRENGTH
from gendataagent.agent.feedback import record, search
from gendataagent.agent.filtering import FILTERS
from gendataagent.agent.selection import SELECTORS
from gendataagent.core.records import HELD_OUT
from gendataagent.generation.feedback import CRITERIA
from gendataagent.generation.rewrite_journal import TAKEN
from gendataagent.report.wording import (
    feedback_aim,
    feedback_reason,
    rejection,
    rewriter_outcome,
    selection_score,
)

REASONS = (
    *(name for name in FILTERS if name != "none"),
    *(f"repeats-{split}-image" for split in HELD_OUT),
    *(HURTS_VALIDATION, OTHER_SHARE, OTHER_STRENGTH),
    *("no-image", "black-image", "class-cut-off", "flagged-by-safety-checker"),
)


@pytest.mark.parametrize("reason", REASONS)
def test_each_reason_for_a_rejection_has_words(reason: str) -> None:
    assert rejection(reason) not in ("", reason)


def test_an_unknown_reason_is_shown_unchanged() -> None:
    assert rejection("own-filter") == "own-filter"
    assert rejection(None) == ""


def test_each_selector_but_uniform_has_a_symbol_for_its_score() -> None:
    assert {name for name in SELECTORS if selection_score(name) is None} == {"uniform"}


def test_outcomes_of_the_rewriter_have_words() -> None:
    assert rewriter_outcome(TAKEN) == "accepted"
    assert rewriter_outcome("refused: too long") == "reply rejected: too long"
    assert rewriter_outcome("replaced by visible-attributes") == "replaced by visible-attributes"


@pytest.mark.parametrize("criterion", CRITERIA)
def test_each_criterion_of_feedback_has_words(criterion: str) -> None:
    assert feedback_aim(criterion) not in ("", criterion)


NOT_STEERED = (record.UNTRAINED, record.EARLIER_ROUND, record.NO_IMAGES, search.NO_GAP)


@pytest.mark.parametrize("steered", [True, False])
@pytest.mark.parametrize(
    "reason", [record.FIXED, search.MATCHED, search.SECOND_VIEW, search.STRONGEST, *NOT_STEERED]
)
def test_each_reason_for_a_scale_has_words(reason: str, steered: bool) -> None:
    assert feedback_reason(reason, steered=steered) not in ("", reason)


def test_a_search_that_ends_without_feedback_is_not_called_a_match() -> None:
    assert feedback_reason(search.MATCHED, steered=True) == "as hard as validation images"
    assert "harder than" in feedback_reason(search.MATCHED, steered=False)
