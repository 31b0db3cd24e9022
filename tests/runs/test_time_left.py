"""The time left of a run counts its rounds, and says when it cannot."""

from __future__ import annotations

import pytest

from gendataagent.runs.time_left import TimeLeft


class Heard:
    """A stage that records each time left."""

    def __init__(self) -> None:
        self.told: list[tuple[float | None, bool]] = []

    def advance(self, amount: float = 1) -> None:
        pass

    def expect(self, seconds: float | None, *, at_least: bool = False) -> None:
        self.told.append((None if seconds is None else round(seconds, 6), at_least))


def test_rounds_are_counted_at_the_cost_of_those_measured() -> None:
    heard = Heard()
    left = TimeLeft([10] * 6, (1, 3), 0)
    left.tell(heard)  # nothing is measured yet
    left.epoch_done(5.0, 10)
    left.tell(heard)
    left.round_done(60.0)
    left.tell(heard, asked=True)
    left.epoch_done(15.0, 10)
    left.tell(heard)
    left.epoch_done(10.0, 10)
    left.round_done(100.0)
    left.tell(heard, asked=True)
    for _ in range(3):
        left.epoch_done(10.0, 10)
    left.tell(heard)
    assert heard.told == [
        (None, False),
        (25.0, True),  # five epochs, and two rounds of unknown cost
        (25.0 + 60.0, False),
        (4 * 10.0 + 60.0, False),
        (3 * 10.0, False),
        (0.0, False),
    ]


@pytest.mark.parametrize(
    ("rounds", "expected"), [([], (20.0, True)), ([30.0, 50.0], (60.0, False))]
)
def test_a_resumed_run_knows_its_earlier_rounds(
    rounds: list[float], expected: tuple[float, bool]
) -> None:
    heard = Heard()
    left = TimeLeft([4] * 10, (2, 7), 4, rounds_measured=rounds)
    left.epoch_done(4.0, 4)
    left.tell(heard)
    assert heard.told == [expected]


def test_what_follows_is_said_to_be_unknown() -> None:
    heard = Heard()
    left = TimeLeft([1] * 3, (), 0, more_follows=True)
    left.epoch_done(2.0, 1)
    left.tell(heard)
    assert heard.told == [(4.0 + 6.0, True)]
