"""The page and the Markdown of an experiment: complete, escaped, no wider than a phone."""

from __future__ import annotations

import html
import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from gendataagent.core.errors import ConfigError
from gendataagent.experiments import Benchmark, find_benchmark
from gendataagent.experiments.page import page
from gendataagent.experiments.report import benchmark_report, comparison_report
from gendataagent.experiments.writing import write_results
from tests.report.test_browser import PROBE, _browse

from .made_up import efficiency_rows, rows_of

NASTY = "<script>alert('a')</script> & \"q\" | `b` ](x)"


@pytest.fixture
def table1() -> Benchmark:
    return find_benchmark("table1")


def results() -> list[dict[str, object]]:
    return rows_of({
        "real-fake": [0.4, 0.5, 0.6], "gendataagent": [0.5, 0.62, 0.7], NASTY: [0.5, 0.4, 0.6],
    })  # fmt: skip


def test_everything_is_written_and_linked(tmp_path: Path, table1: Benchmark) -> None:
    markdown = write_results(results(), tmp_path, benchmark=table1).read_text("utf-8")
    images = re.findall(r"\]\((plots/[\w-]+\.svg)\)", markdown)
    assert len(images) == 5
    assert sorted(images) == sorted(f"plots/{p.name}" for p in (tmp_path / "plots").iterdir())
    assert "| paper |" in markdown
    assert "Pets 94.6 ± 0.10" in markdown
    text = (tmp_path / "results.html").read_text("utf-8")
    assert "Pets 94.6 ± 0.10" in text
    assert text.count('class="plot" viewBox') == 5
    assert "+10.7 [+7.8, +13.5] *</b>" in text
    assert "prefers-color-scheme: dark" in text


def test_the_page_is_escaped_self_contained_and_accessible(
    table1: Benchmark,
) -> None:
    text = page(benchmark_report(results(), table1))
    assert "<script" not in text
    assert not re.search(r"(src|href)=\"(?!#|data:)|@import|https?://(?!www\.w3\.org/)", text)
    ids = re.findall(r' id="([^"]+)"', text)
    assert len(ids) == len(set(ids))
    assert text.count("<caption") == text.count("<table") == 3
    assert not re.search(r"<th>", text)
    for target in re.findall(r'href="#([\w-]+)"', text):
        assert target in ids
    assert text.count('role="img"') == 5


def test_one_seed_is_reported_first(table1: Benchmark) -> None:
    text = page(benchmark_report(rows_of({"real-fake": [0.4], "gendataagent": [0.5]}), table1))
    assert "<strong>One seed: no intervals" in text
    assert "+10.0 (n 1, no interval)" in text
    assert 'class="interval"' not in text


def test_unequal_steps_and_missing_seeds_are_reported(table1: Benchmark) -> None:
    rows = results()[:-1]
    rows[0]["optimizer_steps"] = 700
    report = benchmark_report(rows, table1)
    assert any("Optimiser steps differ, from 700 to 720" in fact for fact in report.facts)
    assert any(f"Fewer than 3 seeds: `{NASTY}` (2)" in fact for fact in report.facts)


def test_without_the_baseline_the_first_arm_takes_its_place(table1: Benchmark) -> None:
    rows = rows_of({"vog-only": [0.4, 0.5], "gendataagent": [0.5, 0.55]})
    report = benchmark_report(rows, replace(table1, baseline="only-real"))
    assert report.differences[0].head == ("arm", "seeds", "minus vog-only")
    assert report.plots[0].title.endswith("minus vog-only")


def test_no_rows_is_an_error_with_the_next_step(table1: Benchmark, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no finished run to show"):
        write_results([], tmp_path, benchmark=table1)
    with pytest.raises(ConfigError, match="no finished run"):
        comparison_report([])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.integration
@pytest.mark.browser
@pytest.mark.parametrize("width", [390, 1280])
def test_nothing_is_wider_than_the_screen(tmp_path: Path, width: int) -> None:
    rows = [*efficiency_rows(), *rows_of({"W" * 120: [0.4, 0.5], NASTY: [0.3, 0.6]})]
    text = page(benchmark_report(rows, find_benchmark("efficiency")))
    framed = PROBE.format(width=width, height=900, page=html.escape(text, quote=True))
    (tmp_path / "probed.html").write_text(framed, encoding="utf-8")
    dom = _browse(tmp_path / "probed.html", tmp_path / "p", "--window-size=1400,1000", "--dump-dom")
    found = re.search(r'<pre id="probe">(\{.*?)</pre>', dom, re.DOTALL)
    assert found, "the probe did not run"
    result = json.loads(html.unescape(found[1]))
    assert result["inner"] == width
    assert result["wide"] == []
    assert result["scroll"] <= width


def test_devices_are_reported_and_seeds_whose_arms_ran_on_different_ones() -> None:
    made = {"made": "2026-11-26", "torch": "2.13.0+cpu"}
    rows = [{**row, **made, "device": "cpu"} for row in rows_of({"a": [0.4, 0.5], "b": [0.5, 0.6]})]
    facts = benchmark_report(rows, find_benchmark("table1")).facts
    assert "Runs of 2026-11-26: 4 on cpu with torch 2.13.0+cpu." in facts
    assert not any("different devices" in fact for fact in facts)

    rows[1] |= {"device": "NVIDIA H200", "torch": "2.11.0", "made": "2026-11-24"}
    text = " ".join(benchmark_report(rows, find_benchmark("table1")).facts)
    assert (
        "Runs of 2026-11-24 to 2026-11-26: 3 on cpu with torch 2.13.0+cpu, 1 on NVIDIA H200 "
        "with torch 2.11.0." in text
    )
    assert "different devices (seeds 1)" in text
