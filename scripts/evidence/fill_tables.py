"""Regenerate the tables of docs/*.md from docs/results.

    python fill_tables.py            # writes; --check only reports whether a table is out of date

A table is between two comments, the first of which describes it:

    <!-- table results=efficiency measures=top1,ece minus=only-real,real-fake worst=real-fake -->
    <!-- end of table -->

`results` is a folder of docs/results; `measures` are columns of means and deviations, `minus` and
`worst` columns of paired differences in top-1 (or in the measures of `compare`) and in the worst
class; `arms` and `seeds` (as 10-29) default to all; `of` gives one line per baseline for one arm.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from gendataagent.experiments.measures import read_rows
from gendataagent.experiments.statistics import paired_difference, summarise
from gendataagent.experiments.tables import (
    COUNTS,
    difference_text,
    measure_of,
    seeds_by_arm,
    values_by_arm,
)

DOCS = Path(__file__).resolve().parents[2] / "docs"
TABLE = re.compile(r"(<!-- table (.*?) -->\n).*?(<!-- end of table -->)", re.DOTALL)
Row = Mapping[str, Any]


def filled(text: str, results: Path) -> str:
    """Return a page with every table regenerated.

    Raises:
        KeyError, RunFolderError: a comment names an unknown arm, measure or folder.
    """
    return TABLE.sub(lambda m: f"{m[1]}{table(_options(m[2]), results)}\n{m[3]}", text)


def table(options: Mapping[str, list[str]], results: Path) -> str:
    """Return one table as Markdown."""
    rows: list[Row] = list(read_rows(results / options["results"][0] / "results.parquet"))
    if "seeds" in options:
        first, last = map(int, options["seeds"][0].split("-"))
        rows = [row for row in rows if first <= row["seed"] <= last]
    arms = options.get("arms") or list(seeds_by_arm(rows))
    if "of" in options:
        lines = [
            [b, *(_difference(rows, key, options["of"][0], b) for key in ("top1", "worst_class"))]
            for b in options["minus"]
        ]
        return _markdown([f"{options['of'][0]} minus", "top-1", "worst class"], lines)
    keys = options.get("compare", ["top1"])
    compared = [(key, b) for b in options.get("minus", []) for key in keys]
    compared += [("worst_class", b) for b in options.get("worst", [])]
    measures = options.get("measures", [])
    head = [
        "arm", "seeds", *(measure_of(key).title for key in measures),
        *(f"{measure_of(key).title.removesuffix(' %')} minus {b}" for key, b in compared),
    ]  # fmt: skip
    lines = [
        [
            arm,
            str(len(seeds_by_arm(rows)[arm])),
            *(_mean(rows, key, arm) for key in measures),
            *("" if arm == b else _difference(rows, key, arm, b) for key, b in compared),
        ]
        for arm in arms
    ]
    return _markdown(head, lines)


def _options(text: str) -> dict[str, list[str]]:
    pairs = (part.split("=", 1) for part in text.split())
    return {key: value.split(",") for key, value in pairs}


def _mean(rows: Sequence[Row], key: str, arm: str) -> str:
    values = list(values_by_arm(rows, key).get(arm, {}).values())
    if not values:
        return ""
    measure, summary = measure_of(key), summarise(values)
    text = measure.text(summary.mean)
    return text if key in COUNTS else f"{text} ± {measure.text(summary.deviation)}"


def _difference(rows: Sequence[Row], key: str, arm: str, baseline: str) -> str:
    values = values_by_arm(rows, key)
    difference = paired_difference(values[arm], values[baseline])
    return difference_text(measure_of(key), difference).replace("*", r"\*")


def _markdown(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    parts = [head, ["---"] * len(head), *lines]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in parts)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--check", action="store_true", help="write nothing; exit with 1 if out of date"
    )
    arguments = parser.parse_args()
    old = []
    for page in sorted(DOCS.glob("*.md")):
        before = page.read_text("utf-8")
        after = filled(before, DOCS / "results")
        if after != before:
            old.append(page.name)
            if not arguments.check:
                page.write_text(after, "utf-8")
    if arguments.check:
        print(f"out of date: {', '.join(old)}" if old else "up to date")
    return int(arguments.check and bool(old))


if __name__ == "__main__":
    raise SystemExit(main())
