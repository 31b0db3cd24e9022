"""Seconds and peak memory of a stage."""

from __future__ import annotations

import time
from types import SimpleNamespace

import psutil
import pytest
import torch

from gendataagent.core.costs import StageCosts
from gendataagent.core.memory import PeakMemory, is_short, resident_mib, scoring_batch


def test_memory_allocated_and_freed_inside_the_block_counts() -> None:
    before = resident_mib()
    with PeakMemory("cpu") as peak:
        taken = torch.ones(64 << 18)  # 64 MiB
        time.sleep(0.2)
        del taken
    assert peak.mib > before + 50
    assert resident_mib() < before + 50


def test_stages_sum_seconds_and_keep_the_highest_peak() -> None:
    costs = StageCosts("cpu")
    with costs.measure("render"):
        time.sleep(0.02)
    peak = costs.peak_memory_mib["render"]
    with costs.measure("render"):
        time.sleep(0.02)
    with costs.measure("filter", clock=False):
        pass
    assert 0.04 <= costs.seconds["render"] < 5
    assert costs.peak_memory_mib["render"] >= peak > 10
    assert set(costs.peak_memory_mib) == {"render", "filter"}
    assert "filter" not in costs.seconds


def test_the_cost_of_a_failed_stage_counts() -> None:
    costs = StageCosts("cpu")
    with pytest.raises(RuntimeError), costs.measure("render"):
        raise RuntimeError
    assert set(costs.seconds) == set(costs.peak_memory_mib) == {"render"}


@pytest.mark.parametrize(("available", "short"), [(51, False), (49, True)])
def test_memory_is_short_when_less_than_half_is_available(
    available: int, short: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory = SimpleNamespace(total=100, available=available, free=1)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: memory)
    assert is_short("cpu") == short


def test_larger_images_are_scored_in_smaller_batches() -> None:
    batches = {px: scoring_batch(px) for px in (32, 112, 224, 448, 5_000)}
    assert batches == {32: 256, 112: 256, 224: 64, 448: 16, 5_000: 8}
