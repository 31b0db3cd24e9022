"""The results of an experiment as files.

OUT/results.md      tables, with the plots as images
OUT/results.html    the same as one self-contained page
OUT/plots/*.svg
"""

from __future__ import annotations

import os
import urllib.parse
from collections.abc import Mapping, Sequence
from pathlib import Path

from gendataagent.core.files import write_bytes
from gendataagent.experiments.benchmarks import Benchmark
from gendataagent.experiments.page import page
from gendataagent.experiments.plots import Plot
from gendataagent.experiments.report import Report, Rows, benchmark_report

REPORT_FILE = "report.html"


def markdown(report: Report, plots_folder: str) -> str:
    """Return the report as Markdown that shows the plots in a folder beside it."""
    parts = [f"# {report.title}", ""]
    parts += [f"- {fact}" for fact in (report.about, *report.facts)]
    parts += ["", report.measures.markdown()]
    parts += [table.markdown() for table in report.differences]
    parts += [table.markdown() for table in (report.classes, report.settings) if table]
    return "\n".join([*parts, plots_markdown(report.sections, plots_folder)])


def plots_markdown(sections: Mapping[str, Sequence[Plot]], plots_folder: str) -> str:
    """Return the plots as images with their notes, section by section."""
    parts = []
    for heading, plots in sections.items():
        parts += [f"## {heading}", ""]
        for plot in plots:
            parts += [f"![{_alternative(plot)}]({plots_folder}/{plot.name}.svg)", ""]
            parts += [f"- {note}" for note in plot.notes] + [""] * bool(plot.notes)
    return "\n".join(parts)


def _alternative(plot: Plot) -> str:
    """Return the title as alternative text of an image, safe between square brackets."""
    return "".join(f"\\{letter}" if letter in "[]\\" else letter for letter in plot.title)


def write_results(
    rows: Rows, out: Path, *, benchmark: Benchmark, findings: Sequence[str] = ()
) -> Path:
    """Write the files of an experiment's results into `out`; return the path of the Markdown.

    Args:
        findings: as `benchmark_report`.
    """
    return write_folder(benchmark_report(rows, benchmark, findings), out)


def write_folder(report: Report, out: Path, folders: Sequence[Path] = ()) -> Path:
    """Write a report as Markdown, page and plots into a folder; return the Markdown's path.

    Args:
        folders: as `write_html`.
    """
    write_html(report, out / "results.html", folders)
    return write_markdown(report, out / "results.md", plots_folder="plots")


def write_markdown(report: Report, path: Path, *, plots_folder: str) -> Path:
    """Write a report as Markdown, its plots into a folder beside it; return `path`."""
    for plot in report.plots:
        write_bytes(path.parent / plots_folder / f"{plot.name}.svg", plot.file().encode())
    write_bytes(path, markdown(report, plots_folder).encode())
    return path


def write_html(report: Report, path: Path, folders: Sequence[Path] = ()) -> Path:
    """Write a report as one self-contained page; return `path`.

    Args:
        folders: of runs and experiments; the page links to the reports of runs found there, or in
            an experiment that the page is written into.
    """
    reports = {}
    for _, _, run in report.runs:
        own = [folder for folder in folders if folder.resolve().name == run]
        places = [*own, *(folder / "runs" / run for folder in (path.parent, *folders))]
        file = next((p / REPORT_FILE for p in places if (p / REPORT_FILE).is_file()), None)
        if file is not None:
            reports[run] = _address(file, path.parent)
    write_bytes(path, page(report, reports).encode())
    return path


def _address(target: Path, folder: Path) -> str:
    """Return the address of a file in a page that lies in `folder`."""
    relative = Path(os.path.relpath(target.resolve(), folder.resolve()))
    return urllib.parse.quote(relative.as_posix())
