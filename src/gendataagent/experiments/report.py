"""The results of an experiment as Markdown: tables, how they were made, what to keep in mind."""

from __future__ import annotations

import datetime
import os
import platform
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from gendataagent.experiments.benches import Bench
from gendataagent.experiments.tables import (
    COMPARED,
    ResultTable,
    differences_table,
    measures_table,
)
from gendataagent.storage import write_bytes

CORPUS_NOTE = (
    "The bundled generator has seen 39,280 other CIFAR-10 photographs, as Stable Diffusion has "
    "seen the web."
)
MAIN_RIVALS = ("only-real", "randaugment", "real-fake", "internet-explorer", "random-drop")


def tables_of(
    rows: Sequence[Mapping[str, Any]],
    *,
    baselines: Sequence[str],
    paper: Mapping[str, str] | None = None,
    brief: bool = False,
) -> tuple[ResultTable, ...]:
    """Return the table of measures, and one of differences for each compared measure."""
    return (
        measures_table(rows, paper=paper, brief=brief),
        *(differences_table(rows, key, baselines) for key in COMPARED),
    )


def write_results(rows: Sequence[Mapping[str, Any]], out: Path, *, bench: Bench) -> Path:
    """Write `out/results.md` and return where it lies."""
    tables = tables_of(rows, baselines=baselines_of(bench), paper=bench.paper)
    first = next(iter(rows), {})
    facts = [
        f"Experiment `{bench.name}`: {bench.about}.",
        f"{len(rows)} runs; seeds {', '.join(map(str, sorted({r['seed'] for r in rows})))}.",
        f"Made on {datetime.date.today().isoformat()} with gendataagent "
        f"{metadata.version('gendataagent')}, torch {metadata.version('torch')}, on "
        f"{platform.machine()} with {os.cpu_count()} CPU cores, one thread a run.",
        f"Optimiser steps: {first.get('optimizer_steps', '?')} in every arm.",
        "`seconds` counts what a run spent itself; images it shares with another run cost it "
        "nothing.",
        "A star marks a difference whose 95 % interval (Student's t, paired by seed) leaves out "
        "zero. Nothing is corrected for the number of comparisons.",
    ]
    if bench.base["generation"]["generator"] == "tiny-sd":
        facts.append(CORPUS_NOTE)
    text = "\n".join(
        [f"# {bench.name}", "", *(f"- {fact}" for fact in facts), "",
         *(table.markdown() for table in tables)]
    )  # fmt: skip
    path = out / "results.md"
    write_bytes(path, text.encode())
    return path


def baselines_of(bench: Bench) -> list[str]:
    """Return the arms the others are compared with."""
    return list(dict.fromkeys([bench.baseline, *MAIN_RIVALS]))
