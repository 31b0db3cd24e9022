"""The tables of docs/evidence.md: made from the results, and as the results are now."""

from __future__ import annotations

import importlib
from pathlib import Path
from types import ModuleType

import pytest

from gendataagent.experiments.measures import write_rows

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "docs" / "results"


@pytest.fixture
def tables(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(ROOT / "scripts" / "evidence"))
    return importlib.import_module("fill_tables")


def test_the_page_shows_what_the_results_say(tables: ModuleType) -> None:
    page = (ROOT / "docs" / "evidence.md").read_text("utf-8")
    assert page.count("<!-- table ") == page.count("<!-- end of table -->") > 3
    assert tables.filled(page, RESULTS) == page, "run scripts/evidence/fill_tables.py"


def test_a_table_is_written_between_its_comments(tables: ModuleType, tmp_path: Path) -> None:
    values = {"plain": (0.40, 0.50), "agent": (0.46, 0.54)}
    rows = [
        {"arm": arm, "seed": seed, "top1": top1, "worst_class": top1 / 2, "kept": 10}
        for arm, both in values.items()
        for seed, top1 in enumerate(both)
    ]
    write_rows(rows, tmp_path / "small" / "results.parquet")

    def shown(options: str) -> list[str]:
        page = f"before\n<!-- table results=small {options} -->\nold\n<!-- end of table -->\nafter"
        lines: list[str] = tables.filled(page, tmp_path).splitlines()
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
    with pytest.raises(KeyError, match="nobody"):
        shown("minus=nobody")
