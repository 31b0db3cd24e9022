"""The criteria on logits whose values are known."""

from __future__ import annotations

import math

import pytest
import torch

from gendataagent.core.errors import ConfigError
from gendataagent.generation.feedback import CRITERIA, criterion_of

LABELS = torch.tensor([0, 1])
LOGITS = torch.tensor([[math.log(0.5), math.log(0.25), math.log(0.25)], [0.0, 0.0, 0.0]])


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("entropy", [1.5 * math.log(2), math.log(3)]),
        ("loss", [math.log(2), math.log(3)]),
        ("easy", [-math.log(2), -math.log(3)]),
        ("margin", [-math.log(2), 0.0]),
    ],
)
def test_values(name: str, expected: list[float]) -> None:
    criterion = criterion_of(name)
    assert criterion is not None
    assert criterion(LOGITS, LABELS).tolist() == pytest.approx(expected, abs=1e-6)


def test_the_margin_is_highest_on_the_boundary_from_both_sides() -> None:
    criterion = criterion_of("margin")
    assert criterion is not None
    logits = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.5, 0.5]])
    values = criterion(logits, torch.tensor([0, 0, 0])).tolist()
    assert values == [-1.0, -1.0, 0.0]


def test_the_random_control_has_no_criterion_and_unknown_names_are_refused() -> None:
    assert CRITERIA["random"] is None
    assert criterion_of("random") is None
    with pytest.raises(ConfigError, match="did you mean entropy"):
        criterion_of("entrop")
