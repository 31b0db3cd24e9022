"""Redraw the plots of docs/results from the parquet files beside them, and list them in the pages.

    python draw_plots.py            # all; or names of folders: efficiency table4

The tables of a page stay unchanged: only its sections of plots are rewritten.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

from gendataagent.experiments import read_rows
from gendataagent.experiments.plots import Plot, plot_sections
from gendataagent.experiments.writing import plots_markdown

RESULTS = Path(__file__).resolve().parents[2] / "docs" / "results"
BASELINE = re.compile(r"^\| arm \| seeds \| minus ([^|]+) \|", re.M)


def redrawn(page: Path) -> tuple[str, list[Plot]]:
    """Return a page of results with today's sections of plots, and the plots.

    The baseline is the first one of the page's table of differences.
    """
    text = page.read_text("utf-8")
    match = BASELINE.search(text)
    if match is None:
        raise ValueError(f"{page} has no table of differences")
    rows = read_rows(page.with_suffix(".parquet"))
    sections = plot_sections(rows, match[1])
    tables = text.partition("## Differences")[0]
    plots = [plot for of_section in sections.values() for plot in of_section]
    return tables + plots_markdown(sections, plots_folder(page)), plots


def plots_folder(page: Path) -> str:
    """Return the name of a page's folder of plots."""
    return page.stem.replace("results", "plots")


def main() -> None:
    for page in sorted(RESULTS.glob("*/results*.md")):
        if sys.argv[1:] and page.parent.name not in sys.argv[1:]:
            continue
        text, plots = redrawn(page)
        page.write_text(text, "utf-8")
        for plot in plots:
            path = page.parent / plots_folder(page) / f"{plot.name}.svg"
            path.write_text(plot.file(), "utf-8")


if __name__ == "__main__":
    main()
