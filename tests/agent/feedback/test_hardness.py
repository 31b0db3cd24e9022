"""Means over images of several classes, and the round trip through JSON, without torch."""

from __future__ import annotations

import subprocess
import sys

import pytest

from gendataagent.agent.feedback.hardness import Hardness
from gendataagent.core.rows import fit


def test_means_follow_the_class_frequencies_asked_for() -> None:
    hardness = Hardness(
        p_true=(0.9, 0.5, 0.1),
        entropy=(0.0, 0.0, 0.0),
        recognised=(True, True, False),
        labels=(0, 0, 1),
    )
    assert hardness.mean_p([0, 1]) == pytest.approx((0.7 + 0.1) / 2)
    assert hardness.recognition([1, 1]) == 0
    assert hardness.mean_p([7]) == pytest.approx(0.5)  # a class without images: the mean of all
    assert fit(Hardness, hardness.to_json()) == hardness


def test_the_records_are_read_without_torch() -> None:
    code = "import sys, gendataagent.agent.feedback.record; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
