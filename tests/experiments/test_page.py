"""The page and the Markdown of an experiment: all there, safe, honest, no wider than a phone."""

from __future__ import annotations

import html
import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from gendataagent.core.errors import ConfigError
from gendataagent.experiments import Bench, find_bench
from gendataagent.experiments.page import page
from gendataagent.experiments.report import report_of_bench, report_of_runs
from gendataagent.experiments.writing import write_results
from tests.report.test_browser import PROBE, _browse

from .made_up import efficiency_rows, rows_of

NASTY = "<script>alert('a')</script> & \"q\" | `b` ](x)"


@pytest.fixture
def table1() -> Bench:
    return find_bench("table1")


def results() -> list[dict[str, object]]:
    return rows_of({
        "real-fake": [0.4, 0.5, 0.6], "gendataagent": [0.5, 0.62, 0.7], NASTY: [0.5, 0.4, 0.6],
    })  # fmt: skip


def test_everything_is_written_and_linked(tmp_path: Path, table1: Bench) -> None:
    markdown = write_results(results(), tmp_path, bench=table1).read_text("utf-8")
    images = re.findall(r"\]\((plots/[\w-]+\.svg)\)", markdown)
    assert len(images) == 5
    assert sorted(images) == sorted(f"plots/{p.name}" for p in (tmp_path / "plots").iterdir())
    assert "| paper |" in markdown
    assert "Pets 94.6 ± 0.10" in markdown
    text = (tmp_path / "results.html").read_text("utf-8")
    assert "Pets 94.6 ± 0.10" in text
    assert text.count('<svg class="plot"') == 5
    assert "+10.7 [+7.8, +13.5] *</b>" in text
    assert "prefers-color-scheme: dark" in text


def test_the_page_is_safe_self_contained_and_has_what_screen_readers_need(table1: Bench) -> None:
    text = page(report_of_bench(results(), table1))
    assert "<script" not in text
    assert not re.search(r"(src|href)=\"(?!#|data:)|@import|https?://", text)
    ids = re.findall(r' id="([^"]+)"', text)
    assert len(ids) == len(set(ids))
    assert text.count("<caption") == text.count("<table") == 3
    assert not re.search(r"<th>", text)
    for target in re.findall(r'href="#([\w-]+)"', text):
        assert target in ids
    assert text.count('role="img"') == 5


def test_one_seed_is_said_first(table1: Bench) -> None:
    text = page(report_of_bench(rows_of({"real-fake": [0.4], "gendataagent": [0.5]}), table1))
    assert "<strong>One seed: there are no intervals" in text
    assert "+10.0 (n 1, no interval)" in text
    assert 'class="whisker"' not in text


def test_unequal_steps_and_missing_seeds_are_said(table1: Bench) -> None:
    rows = results()[:-1]
    rows[0]["optimizer_steps"] = 700
    report = report_of_bench(rows, table1)
    assert any("Optimiser steps differ, from 700 to 720" in fact for fact in report.facts)
    assert any(f"Not all 3 seeds are there for `{NASTY}` (2)" in fact for fact in report.facts)


def test_without_the_baseline_the_first_arm_takes_its_place(table1: Bench) -> None:
    rows = rows_of({"vog-only": [0.4, 0.5], "gendataagent": [0.5, 0.55]})
    report = report_of_bench(rows, replace(table1, baseline="only-real"))
    assert report.differences[0].head == ("arm", "seeds", "minus vog-only")
    assert report.plots[0].title.endswith("minus vog-only")


def test_no_rows_is_an_error_that_says_what_to_do(table1: Bench, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no finished run to show"):
        write_results([], tmp_path, bench=table1)
    with pytest.raises(ConfigError, match="no finished run"):
        report_of_runs([])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.integration
@pytest.mark.browser
@pytest.mark.parametrize("width", [390, 1280])
def test_nothing_is_wider_than_the_screen(tmp_path: Path, width: int) -> None:
    rows = [*efficiency_rows(), *rows_of({"W" * 120: [0.4, 0.5], NASTY: [0.3, 0.6]})]
    text = page(report_of_bench(rows, find_bench("efficiency")))
    framed = PROBE.format(width=width, height=900, page=html.escape(text, quote=True))
    (tmp_path / "probed.html").write_text(framed, encoding="utf-8")
    dom = _browse(tmp_path / "probed.html", tmp_path / "p", "--window-size=1400,1000", "--dump-dom")
    found = re.search(r'<pre id="probe">(\{.*?)</pre>', dom, re.DOTALL)
    assert found, "the probe did not run"
    result = json.loads(html.unescape(found[1]))
    assert result["inner"] == width
    assert result["wide"] == []
    assert result["scroll"] <= width


def test_the_devices_of_the_runs_are_said_and_where_they_are_mixed() -> None:
    made = {"made": "2026-11-26", "torch": "2.13.0+cpu"}
    rows = [{**row, **made, "device": "cpu"} for row in rows_of({"a": [0.4, 0.5], "b": [0.5, 0.6]})]
    facts = report_of_bench(rows, find_bench("table1")).facts
    assert "Runs made on 2026-11-26: 4 on cpu with torch 2.13.0+cpu." in facts
    assert not any("several of these" in fact for fact in facts)

    rows[1] |= {"device": "NVIDIA H200", "torch": "2.11.0", "made": "2026-11-24"}
    text = " ".join(report_of_bench(rows, find_bench("table1")).facts)
    assert (
        "Runs made on 2026-11-24 to 2026-11-26: 3 on cpu with torch 2.13.0+cpu, 1 on NVIDIA H200 "
        "with torch 2.11.0." in text
    )
    assert "several of these (seeds 1)" in text
