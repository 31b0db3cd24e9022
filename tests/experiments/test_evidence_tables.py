"""Tables and lists of plots in docs/evidence.md and docs/results match the parquet files."""

from __future__ import annotations

import re
from pathlib import Path

import draw_plots
import fill_tables
import pytest

from gendataagent.experiments import all_benchmarks
from gendataagent.experiments.measures import read_rows, write_rows
from gendataagent.experiments.report import tables_of

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "docs" / "results"


PAGES = sorted(RESULTS.glob("*/results*.md"))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.parent.name)
def test_a_page_of_results_matches_its_parquet(page: Path) -> None:
    text, rows = page.read_text("utf-8"), read_rows(page.with_suffix(".parquet"))
    (heading, *_) = re.findall(r"^\| arm \| seeds \| (minus .*) \|$", text, re.M)
    baselines = [cell.removeprefix("minus ") for cell in heading.split(" | ")]
    papers = {benchmark.name: benchmark.paper for benchmark in all_benchmarks()}
    paper = papers[page.parent.name] if "| paper |" in text else None
    for table in tables_of(rows, baselines=baselines, paper=paper):
        assert table.markdown() in text
    redrawn, plots = draw_plots.redrawn(page)
    assert redrawn == text, "run scripts/evidence/draw_plots.py"
    folder = page.parent / draw_plots.plots_folder(page)
    assert {path.name for path in folder.iterdir()} == {f"{plot.name}.svg" for plot in plots}


def test_the_page_shows_the_figures_of_the_results() -> None:
    page = (ROOT / "docs" / "evidence.md").read_text("utf-8")
    assert page.count("<!-- table ") == page.count("<!-- end of table -->") > 3
    assert fill_tables.filled(page, RESULTS) == page, "run scripts/evidence/fill_tables.py"


def test_a_table_is_written_between_its_comments(tmp_path: Path) -> None:
    values = {"plain": (0.40, 0.50), "agent": (0.46, 0.54)}
    rows = [
        {"arm": arm, "seed": seed, "top1": top1, "worst_class": top1 / 2, "kept": 10}
        for arm, both in values.items()
        for seed, top1 in enumerate(both)
    ]
    write_rows(rows, tmp_path / "small" / "results.parquet")

    def shown(options: str) -> list[str]:
        page = f"before\n<!-- table results=small {options} -->\nold\n<!-- end of table -->\nafter"
        lines: list[str] = fill_tables.filled(page, tmp_path).splitlines()
        assert [lines[0], lines[-1]] == ["before", "after"]
        return lines[2:-2]

    assert shown("measures=top1,kept minus=plain worst=plain") == [
        "| arm | seeds | top-1 % | kept | top-1 minus plain | worst class minus plain |",
        "| --- | --- | --- | --- | --- | --- |",
        "| plain | 2 | 45.0 ± 7.1 | 10 |  |  |",
        "| agent | 2 | 50.0 ± 5.7 | 10 | +5.0 [-7.7, +17.7] | +2.5 [-3.9, +8.9] |",
    ]
    assert shown("of=agent minus=plain seeds=1-1") == [
        "| agent minus | top-1 | worst class |",
        "| --- | --- | --- |",
        "| plain | +4.0 (n 1, no interval) | +2.0 (n 1, no interval) |",
    ]
    with pytest.raises(KeyError, match="unknown"):
        shown("minus=unknown")
