"""The results at equal wall-clock time as Markdown and page, with the cost model.

OUT/results-equal-time.md, .html    as `gendataagent experiment`, and two tables of seconds
OUT/plots-equal-time/*.svg
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any

from time_costs import ArmCost

from gendataagent.experiments.benchmarks import Benchmark
from gendataagent.experiments.report import benchmark_report
from gendataagent.experiments.tables import ResultTable
from gendataagent.experiments.writing import write_html, write_markdown

PAGE_FILE = "results-equal-time.md"


def write_equal_time(
    rows: Sequence[Mapping[str, Any]],
    out: Path,
    *,
    benchmark: Benchmark,
    reference: str,
    costs: Mapping[str, ArmCost],
) -> Path:
    """Write the report as Markdown, page and plots; return the path of the Markdown.

    Args:
        rows: of `run_equal_time`.
        costs: arm -> its cost model.
    """
    report = benchmark_report(rows, benchmark)
    report = replace(
        report,
        title=f"{benchmark.name}, equal wall-clock time",
        facts=(*_facts(rows, reference=reference), *report.facts),
        differences=(*report.differences, prices_table(costs), seconds_table(rows)),
    )
    path = out / PAGE_FILE
    write_html(report, path.with_suffix(".html"))
    return write_markdown(report, path, plots_folder="plots-equal-time")


def _facts(rows: Sequence[Mapping[str, Any]], *, reference: str) -> tuple[str, ...]:
    """Return how the budget was set, a sentence or two each."""
    ours = next((row for row in rows if row["arm"] == reference), None)
    budget = f"{ours['predicted_seconds']:.0f} seconds" if ours else "seconds"
    length = f" {ours['epochs']} epochs, {ours['optimizer_steps']} optimiser steps," if ours else ""
    return (
        f"Budget: the {budget} that `{reference}` takes for its own run,{length} everything "
        "included. What an arm does not spend on captions, rewriting, images, selection, filter, "
        "probes and adaptation of the generator, it trains longer, in whole epochs; an arm that "
        "spends more trains shorter.",
        "Learning-rate drops, rounds and VoG snapshots are at the same fractions of the training "
        "as at equal steps; the warm-up has the same number of epochs.",
        "The seconds are those of an arm on its own, one thread: unit costs fitted to the "
        "finished runs at equal steps (medians over seeds; for images and shared captions only "
        "those that were made, not read from disk) times counts, stored in `equal-time.json`. "
        "Loading data and evaluation are left out.",
    )


def prices_table(costs: Mapping[str, ArmCost]) -> ResultTable:
    """Return the cost model of each arm."""
    lines = [
        (
            arm, f"{1000 * cost.step_seconds:.1f}", str(cost.images),
            f"{1000 * cost.image_seconds:.1f}", str(cost.captions),
            f"{1000 * cost.caption_seconds:.2f}", f"{cost.rewrite_seconds:.1f}",
            f"{cost.select_seconds:.1f}", f"{cost.filter_seconds:.1f}",
            f"{cost.probe_seconds:.1f}", f"{cost.adapt_seconds:.1f}",
            f"{cost.beside_training:.1f}",
        )
        for arm, cost in costs.items()
    ]  # fmt: skip
    return ResultTable(
        title="Cost of a run",
        head=("arm", "ms per step", "images", "ms per image", "captions", "ms per caption",
              "rewriting s", "selection s", "filter s", "probes s", "adaptation s",
              "all but steps s"),
        rows=tuple(lines),
    )  # fmt: skip


def seconds_table(rows: Sequence[Mapping[str, Any]]) -> ResultTable:
    """Return predicted and measured seconds, means over seeds."""
    lines = []
    for arm in dict.fromkeys(row["arm"] for row in rows):
        own = [row for row in rows if row["arm"] == arm]

        def mean(key: str, own: Sequence[Mapping[str, Any]] = own) -> str:
            return f"{fmean(row[key] for row in own):.0f}"

        lines.append((arm, mean("epochs"), mean("optimizer_steps"), mean("predicted_seconds"),
                      mean("epoch_seconds"), mean("round_seconds")))  # fmt: skip
    return ResultTable(
        title="Predicted and measured seconds; rounds that read their images from disk are short",
        head=("arm", "epochs", "steps", "predicted s", "training s", "rounds s"),
        rows=tuple(lines),
    )
