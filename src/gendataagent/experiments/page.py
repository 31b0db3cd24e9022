"""The results of an experiment as one self-contained page, styled as a run's report."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from importlib import resources

from gendataagent.experiments.plots import Plot, plots_style
from gendataagent.experiments.report import Report
from gendataagent.experiments.tables import ResultTable, typographic
from gendataagent.report.html_document import document
from gendataagent.report.markup import esc, name, section, table

_LEADS = {
    "Differences": "Each arm against the first baseline, paired by seed; below, in figures against "
    "every baseline.",
    "Means": "Mean of each arm, with every seed.",
    "Sweeps": "One setting at several values.",
    "Cost": "Accuracy against wall-clock time.",
}


def page(report: Report, reports: Mapping[str, str] | None = None) -> str:
    """Return a report as HTML that works offline and without scripts.

    Args:
        reports: name of a run -> address of its own report, where it has one.
    """
    style = resources.files("gendataagent.experiments").joinpath("page.css").read_text("utf-8")
    body = section("facts", "How to read this", _notes(report.facts))
    anchors = [("facts", "Facts")]
    for heading, plots in report.sections.items():
        content = _figures(plots)
        if heading == "Differences":
            content += "".join(_table(t) for t in report.differences)
        anchors.append((heading.lower(), heading))
        body += section(heading.lower(), heading, content, lead=_LEADS[heading])
    if "Differences" not in report.sections:
        body += section("differences", "Differences", "".join(map(_table, report.differences)))
        anchors.append(("differences", "Differences"))
    for anchor, heading, result in (
        ("classes", "Classes", report.classes),
        ("settings", "Settings", report.settings),
    ):
        if result is not None:
            body += section(anchor, heading, _table(result))
            anchors.append((anchor, heading))
    body += section("measures", "All measures", _table(report.measures, is_titled=False),
                    lead=f"{esc(report.measures.title)}.")  # fmt: skip
    anchors.append(("measures", "All measures"))
    if reports:
        body += section("runs", "Runs", _runs(report, reports), lead="The report of each run.")
        anchors.append(("runs", "Runs"))
    cards = "".join(
        f'<li class="card"><b>{esc(figure)}</b><span>{esc(what)}</span></li>'
        for figure, what in report.figures
    )
    return document(
        title=report.title,
        header=f'<p class="eyebrow">GenDataAgent · experiment</p><h1>{name(report.title)}</h1>'
        f'<p class="lead">{_coded(report.about)}</p><ul class="cards">{cards}</ul>',
        body=body,
        navigation=anchors,
        footer="Computed from one row of measures per run.",
        style=plots_style() + style,
    )


def _runs(report: Report, reports: Mapping[str, str]) -> str:
    """Return a line for each arm with a link for each run that has a report."""
    of_arm: dict[str, list[str]] = {}
    for arm, seed, run in report.runs:
        if run in reports:
            link = f'<a href="{esc(reports[run])}">seed {esc(seed)}</a>'
            of_arm.setdefault(arm, []).append(link)
    items = "".join(f"<li>{name(arm)}: {', '.join(links)}</li>" for arm, links in of_arm.items())
    return f'<ul class="notes">{items}</ul>'


def _figures(plots: Sequence[Plot]) -> str:
    figures = "".join(
        f"<figure>{plot.inline()}<figcaption>{''.join(f'<p>{esc(n)}</p>' for n in plot.notes)}"
        "</figcaption></figure>"
        for plot in plots
    )
    return f'<div class="plots">{figures}</div>'


def _notes(facts: Sequence[str]) -> str:
    items = "".join(f"<li>{_coded(fact)}</li>" for fact in facts)
    return f'<ul class="notes">{items}</ul>'


def _coded(sentence: str) -> str:
    """Return a sentence as HTML; `code` and **strong** of Markdown are the only markup."""
    text = re.sub(r"`([^`]*)`", r"<code>\1</code>", esc(sentence))
    return re.sub(r"\*\*(.+?)\*\*", r"<strong>\1</strong>", text)


def _table(result: ResultTable, *, is_titled: bool = True) -> str:
    rows = [[name(row[0]), *map(_cell, row[1:])] for row in result.rows]
    title = f"<h3>{esc(result.title[:1].upper() + result.title[1:])}</h3>" if is_titled else ""
    head = [esc(cell) for cell in result.head]
    return title + table(head, rows, caption=esc(result.title))


def _cell(cell: str) -> str:
    """Return a cell as HTML: starred ones are bold, long ones may break into lines."""
    if len(cell) > 40:
        return f'<span class="words">{esc(cell)}</span>'
    text = esc(typographic(cell))
    return f"<b>{text}</b>" if " *" in cell else text
