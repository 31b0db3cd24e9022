"""Seconds of a run by itself, read from a real experiment whose arms share their images."""

from __future__ import annotations

from pathlib import Path

import pytest

from gendataagent.experiments import read_rows
from gendataagent.experiments.plots import cost_plots
from gendataagent.experiments.standalone_cost import with_seconds_alone

from .made_up import rows_of

pytestmark = pytest.mark.integration


def test_an_arm_that_found_its_images_pays_for_them_all_the_same(finished: Path) -> None:
    rows = with_seconds_alone(read_rows(finished / "results.parquet"), finished)
    real, first, second = (row["seconds_alone"] for row in rows)
    assert 0 < real < first
    assert first * 0.5 < second < first * 2  # though it drew none of its images itself
    assert "by itself" in cost_plots(rows)[0].notes[0]


def test_rows_without_their_runs_stay_what_they_are(finished: Path, tmp_path: Path) -> None:
    rows = read_rows(finished / "results.parquet")
    assert with_seconds_alone(rows, tmp_path) == rows
    rows[1]["run"] = "elsewhere"
    told = ["seconds_alone" in row for row in with_seconds_alone(rows, finished)]
    assert told == [True, False, True]
    assert "spent itself" in cost_plots(with_seconds_alone(rows, finished))[0].notes[0]


def test_the_cost_is_of_the_runs_by_themselves_where_all_have_it() -> None:
    rows = rows_of({"a": [0.5], "b": [0.6]}, seconds_alone={"a": 7.0, "b": 9.0})
    assert "50.0 % in 7 s" in cost_plots(rows)[0].description
    del rows[0]["seconds_alone"]
    assert "50.0 % in 101 s" in cost_plots(rows)[0].description
