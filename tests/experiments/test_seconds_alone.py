"""Seconds of a run on its own, from a real experiment whose arms share their images."""

from __future__ import annotations

from pathlib import Path

import pytest
from seconds_alone import with_seconds_alone
from time_costs import image_prices, read_timed

from gendataagent.experiments import read_rows

pytestmark = pytest.mark.integration


def test_an_arm_that_read_its_images_from_disk_is_charged_for_them(finished: Path) -> None:
    rows = with_seconds_alone(read_rows(finished / "results.parquet"), finished)
    real, first, second = (row["seconds_alone"] for row in rows)
    timed = [read_timed(finished / "runs" / row["run"]) for row in rows]
    (price,) = image_prices(timed).values()
    images = price * sum(record.made for record in timed[2].rounds)
    own = sum(seconds * len(keys) for keys, seconds in timed[2].batches)
    assert own < images  # it rendered none of its images
    assert images < min(first, second)
    assert real > 0


def test_rows_without_their_runs_are_unchanged(finished: Path, tmp_path: Path) -> None:
    rows = read_rows(finished / "results.parquet")
    assert with_seconds_alone(rows, tmp_path) == rows
    rows[1]["run"] = "elsewhere"
    found = ["seconds_alone" in row for row in with_seconds_alone(rows, finished)]
    assert found == [True, False, True]
