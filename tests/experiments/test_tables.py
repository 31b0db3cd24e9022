"""Tables of rows, character by character."""

from __future__ import annotations

import json
import math

from gendataagent.experiments.tables import (
    classes_table,
    differences_table,
    measures_table,
    settings_table,
)

from .made_up import rows_of

ROWS = [
    {"arm": "only-real", "seed": 0, "top1": 0.40, "worst_class": 0.1, "seconds": 10.0, "ece": None},
    {"arm": "only-real", "seed": 1, "top1": 0.42, "worst_class": 0.3, "seconds": 12.0, "ece": None},
    {"arm": "agent", "seed": 0, "top1": 0.45, "worst_class": 0.2, "seconds": 30.0, "ece": 0.05},
    {"arm": "agent", "seed": 1, "top1": 0.47, "worst_class": 0.2, "seconds": 34.0, "ece": 0.07},
    {"arm": "once", "seed": 1, "top1": 0.50, "worst_class": 0.0, "seconds": 1.0, "ece": None},
]


def test_each_measure_is_a_mean_with_its_deviation() -> None:
    table = measures_table(ROWS, paper={"agent": "94.6"})
    assert table.head == ("arm", "seeds", "top-1 %", "worst class %", "ECE %", "seconds", "paper")
    assert table.rows == (
        ("only-real", "2", "41.0 ± 1.4", "20.0 ± 14.1", "", "11", ""),
        ("agent", "2", "46.0 ± 1.4", "20.0 ± 0.0", "6.0 ± 1.4", "32", "94.6"),
        ("once", "1", "50.0", "0.0", "", "1", ""),
    )


def test_differences_are_paired_and_a_star_marks_intervals_without_zero() -> None:
    table = differences_table(ROWS, "top1", ["only-real", "unknown", "agent"])
    assert table.head == ("arm", "seeds", "minus only-real", "minus agent")
    assert table.rows == (
        ("only-real", "2", "", "-5.0 [-5.0, -5.0] *"),
        ("agent", "2", "+5.0 [+5.0, +5.0] *", ""),
        ("once", "1", "+8.0 (n 1, no interval)", "+3.0 (n 1, no interval)"),
    )
    worst = differences_table(ROWS, "worst_class", ["only-real"])
    assert worst.rows[1] == ("agent", "2", "+0.0 [-127.1, +127.1]")


def test_markdown_is_a_table() -> None:
    lines = differences_table(ROWS, "top1", ["only-real"]).markdown().splitlines()
    assert lines[0].startswith("**top-1 %: paired difference")
    assert lines[2:5] == [
        "| arm | seeds | minus only-real |", "|---|---|---|", "| only-real | 2 |  |"
    ]  # fmt: skip


def test_the_brief_table_has_few_columns() -> None:
    table = measures_table(ROWS, brief=True)
    assert table.head == ("arm", "seeds", "top-1 %", "worst class %", "seconds")
    assert table.rows[1] == ("agent", "2", "46.0 ± 1.4", "20.0 ± 0.0", "32")


def test_a_figure_of_fewer_seeds_than_its_row_has_its_own_n() -> None:
    rows = [
        {"arm": arm, "seed": seed, "top1": 0.4 + seed / 100, "ece": value}
        for arm, seeds in (("a", (0, 1, 2)), ("b", (1, 2, 3)), ("c", (8, 9)))
        for seed, value in zip(seeds, (0.1, math.nan, 0.3), strict=False)
    ]
    measures = measures_table(rows)
    assert measures.rows[0] == ("a", "3", "41.0 ± 1.0", "20.0 ± 14.1 (n 2)")
    assert measures.rows[2] == ("c", "2", "48.5 ± 0.7", "10.0 (n 1)")
    differences = differences_table(rows, "top1", ["a"])
    assert differences.rows[1] == ("b", "3", "+0.0 [+0.0, +0.0] (n 2)")
    assert differences.rows[2] == ("c", "2", "no shared seed")


def test_the_same_seed_twice_counts_once() -> None:
    assert measures_table([ROWS[0], dict(ROWS[0])]).rows[0][1] == "1"


def test_names_are_escaped_in_markdown() -> None:
    rows = [{"arm": "a|<b>", "seed": 0, "top1": 0.5}]
    assert "| a\\|&lt;b> | 1 | 50.0 |" in measures_table(rows).markdown()


def test_each_class_has_its_accuracy_and_difference() -> None:
    rows = rows_of({"base": [0.4, 0.5], "new": [0.5, 0.7]})
    for row, cat in zip(rows, (0.2, 0.3, 0.5, 0.4), strict=True):
        row["per_class"] = {"cat": cat, "dog|x": 0.6}
    table = classes_table(rows, "base")
    assert table is not None
    assert table.head == ("class", "base", "new")
    assert table.rows[0][:2] == ("cat", "25.0 ± 7.1")
    assert table.rows[0][2].startswith("45.0 ± 7.1; +20.0 [")
    assert table.rows[1][2] == "60.0 ± 0.0; +0.0 [+0.0, +0.0]"
    assert "dog\\|x" in table.markdown()
    assert classes_table(rows_of({"base": [0.4]}), "base") is None


def test_settings_that_differ_are_listed_by_arm() -> None:
    rows = rows_of({"base": [0.4, 0.5], "new": [0.5, 0.6]})
    assert settings_table(rows) is None
    for row in rows:
        own = {"generation.feedback": "entropy"} if row["arm"] == "new" else {}
        row["settings"] = json.dumps({"training.epochs": 24, "filter.by": row["arm"], **own})
    table = settings_table(rows)
    assert table is not None
    assert table.rows == (
        ("filter.by", '"base"', '"new"'), ("generation.feedback", "–", '"entropy"'),
    )  # fmt: skip
