"""The number of executed steps is the one that steps and strength multiply to."""

from __future__ import annotations

from fractions import Fraction

from gendataagent.core.steps import executed_steps


def test_it_is_the_exact_product_rounded_down() -> None:
    for steps in range(1, 101):
        for hundredths in range(1, 101):
            exact = int(Fraction(hundredths, 100) * steps)
            assert executed_steps(steps, hundredths / 100) == exact
