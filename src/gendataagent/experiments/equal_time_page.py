"""The results at equal wall-clock time for people, with what the time was worked out from.

OUT/results-equal-time.md, .html    as `report`, and two tables of seconds
OUT/plots-equal-time/*.svg
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any

from gendataagent.experiments.benchmarks import Bench
from gendataagent.experiments.report import report_of_bench
from gendataagent.experiments.tables import ResultTable
from gendataagent.experiments.time_costs import ArmCost
from gendataagent.experiments.writing import write_html, write_markdown

PAGE_FILE = "results-equal-time.md"


def write_equal_time(
    rows: Sequence[Mapping[str, Any]],
    out: Path,
    *,
    bench: Bench,
    reference: str,
    costs: Mapping[str, ArmCost],
) -> Path:
    """Write the report as Markdown, page and plots; return where the Markdown lies.

    Args:
        rows: of `run_equal_time`.
        costs: arm -> what the seconds were worked out from.
    """
    report = report_of_bench(rows, bench)
    report = replace(
        report,
        title=f"{bench.name}, equal wall-clock time",
        facts=(*_facts(rows, reference=reference), *report.facts),
        differences=(*report.differences, prices_table(costs), seconds_table(rows)),
    )
    path = out / PAGE_FILE
    write_html(report, path.with_suffix(".html"))
    return write_markdown(report, path, plots_folder="plots-equal-time")


def _facts(rows: Sequence[Mapping[str, Any]], *, reference: str) -> tuple[str, ...]:
    """Return how the time was made equal, a sentence or two each."""
    ours = next((row for row in rows if row["arm"] == reference), None)
    budget = f"{ours['predicted_seconds']:.0f} seconds" if ours else "seconds"
    length = f" {ours['epochs']} epochs, {ours['optimizer_steps']} optimiser steps," if ours else ""
    return (
        f"Every arm got the {budget} that `{reference}` takes for its own training,{length} with "
        "all it does beside it. What an arm does not spend on captions, rewriting, images, "
        "selecting, filtering, probing and adapting the generator, it trains longer, in whole "
        "epochs; an arm that spends more trains shorter.",
        "Learning-rate drops, rounds and VoG checkpoints stand at the same shares of the training "
        "as at equal steps; the warm-up is as many epochs as there.",
        "The seconds are those of an arm as if it stood alone, one thread: prices fitted to the "
        "finished runs at equal steps (medians over seeds; of images and shared captions those "
        "that were made, not found) times counts, frozen in `equal-time.json`. Reading the data "
        "and measuring accuracy are left out.",
    )


def prices_table(costs: Mapping[str, ArmCost]) -> ResultTable:
    """Return what each arm's seconds were worked out from."""
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
        title="What a run costs",
        head=("arm", "ms a step", "images", "ms an image", "captions", "ms a caption",
              "rewriting s", "selecting s", "filtering s", "probing s", "adapting s",
              "all but steps s"),
        rows=tuple(lines),
    )  # fmt: skip


def seconds_table(rows: Sequence[Mapping[str, Any]]) -> ResultTable:
    """Return predicted beside measured seconds, means over seeds."""
    lines = []
    for arm in dict.fromkeys(row["arm"] for row in rows):
        own = [row for row in rows if row["arm"] == arm]

        def mean(key: str, own: Sequence[Mapping[str, Any]] = own) -> str:
            return f"{fmean(row[key] for row in own):.0f}"

        lines.append((arm, mean("epochs"), mean("optimizer_steps"), mean("predicted_seconds"),
                      mean("epoch_seconds"), mean("round_seconds")))  # fmt: skip
    return ResultTable(
        title="Predicted and measured seconds; measured are the run's own, so rounds that found "
        "their images on disk are short",
        head=("arm", "epochs", "steps", "predicted s", "training s", "rounds s"),
        rows=tuple(lines),
    )
