"""The results of an experiment: tables, plots, how they were made, what to keep in mind."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gendataagent.core.errors import ConfigError
from gendataagent.experiments.benchmarks import Bench
from gendataagent.experiments.plots import (
    Plot,
    cost_plots,
    difference_plots,
    mean_plots,
    sweep_plots_of,
)
from gendataagent.experiments.tables import (
    COMPARED,
    ResultTable,
    differences_table,
    measures_table,
    seeds_by_arm,
    values_by_arm,
)

CORPUS_NOTE = (
    "The bundled generator has seen 39,280 other CIFAR-10 photographs, as Stable Diffusion has "
    "seen the web."
)
HOW_TO_READ = (
    "A star marks a difference whose 95 % interval (Student's t, paired by seed) leaves out "
    "zero. Nothing is corrected for the number of comparisons.",
    "`seconds` counts what a run spent itself; images it shares with another run cost it nothing. "
    "`seconds alone`, where it is known, is what it costs by itself: prices of steps, images and "
    "captions, medians over these runs, times their numbers.",
    "n is the number of seeds; it stands behind a figure where it is not that of the row.",
)
MAIN_RIVALS = ("only-real", "randaugment", "real-fake", "internet-explorer", "random-drop")
Rows = Sequence[Mapping[str, Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What is to be shown, in whatever form.

    Args:
        about: one line on what was compared.
        facts: sentences on how it was made and what to keep in mind; words in `code`.
        figures: a few figures at a glance, each with what it is.
        measures: the table of all measures.
        differences: a table of differences for each compared measure.
        sections: heading -> plots.
    """

    title: str
    about: str
    facts: tuple[str, ...]
    figures: tuple[tuple[str, str], ...]
    measures: ResultTable
    differences: tuple[ResultTable, ...]
    sections: Mapping[str, tuple[Plot, ...]]

    @property
    def plots(self) -> tuple[Plot, ...]:
        """All plots, in order."""
        return tuple(plot for plots in self.sections.values() for plot in plots)


def tables_of(
    rows: Rows,
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


def baselines_of(bench: Bench) -> list[str]:
    """Return the arms the others are compared with."""
    return list(dict.fromkeys([bench.baseline, *MAIN_RIVALS]))


def report_of_bench(rows: Rows, bench: Bench) -> Report:
    """Return the report of an experiment's rows; raise `ConfigError` where there are none."""
    corpus = (CORPUS_NOTE,) if bench.base["generation"]["generator"] == "tiny-sd" else ()
    return _report(
        rows,
        title=bench.name,
        about=f"Experiment `{bench.name}`: {bench.about}.",
        facts=corpus,
        baselines=baselines_of(bench),
        paper=bench.paper,
    )


def report_of_runs(rows: Rows) -> Report:
    """Return the report of any finished runs, compared with the first of them.

    Raises:
        ConfigError: there are none.
    """
    return _report(
        rows,
        title="comparison",
        about="Finished runs side by side; runs that share a seed are paired.",
        facts=("Runs whose settings differ in nothing but the seed are one arm.",),
        baselines=[rows[0]["arm"]] if rows else [],
        paper={},
    )


def _report(
    rows: Rows,
    *,
    title: str,
    about: str,
    facts: tuple[str, ...],
    baselines: Sequence[str],
    paper: Mapping[str, str],
) -> Report:
    if not rows:
        raise ConfigError("there is no finished run to show; run the experiment first")
    present = [name for name in baselines if name in seeds_by_arm(rows)]
    present = present or [rows[0]["arm"]]
    measures, *differences = tables_of(rows, baselines=present, paper=paper)
    sections = {
        "Differences": difference_plots(rows, present[0]),
        "Means": mean_plots(rows),
        "Sweeps": sweep_plots_of(rows, present[0]),
        "Cost": cost_plots(rows),
    }
    return Report(
        title=title,
        about=about,
        facts=(*_facts(rows), *facts, *HOW_TO_READ),
        figures=_figures(rows),
        measures=measures,
        differences=tuple(differences),
        sections={heading: plots for heading, plots in sections.items() if plots},
    )


def _facts(rows: Rows) -> Iterator[str]:
    seeds = seeds_by_arm(rows)
    every = sorted(set().union(*seeds.values()))
    yield f"{len(rows)} runs; seeds {', '.join(map(str, every))}."
    if len(every) == 1:
        yield (
            "**One seed: there are no intervals, and chance is not told from effect.** Run more "
            "seeds before you conclude anything."
        )
    lacking = [f"`{arm}` ({len(of)})" for arm, of in seeds.items() if len(of) < len(every)]
    if len(lacking) == len(seeds):
        yield "No arm has all seeds; a difference is over the seeds that its two arms share."
    elif lacking:
        yield f"Not all {len(every)} seeds are there for {', '.join(lacking)}."
    yield from _made_on(rows)
    steps = sorted(_whole_numbers(rows, "optimizer_steps"))
    if len(steps) == 1:
        yield f"Optimiser steps: {steps[0]:,} in every arm."
    elif steps:
        yield (
            f"Optimiser steps differ, from {steps[0]:,} to {steps[-1]:,}: part of a difference may "
            "come from that."
        )


def _made_on(rows: Rows) -> Iterator[str]:
    """Say on what devices the runs were made, and where they cannot be told from an arm."""
    known = [row for row in rows if row.get("device")]
    if not known:
        return
    runs = Counter((str(row["device"]), str(row["torch"])) for row in known)
    days = sorted({str(row["made"]) for row in known})
    where = ", ".join(f"{n} on {device} with torch {version}" for (device, version), n in
                      runs.most_common())  # fmt: skip
    yield f"Runs made on {' to '.join(dict.fromkeys((days[0], days[-1])))}: {where}."
    of_seed: dict[int, set[tuple[str, str]]] = {}
    for row in known:
        of_seed.setdefault(row["seed"], set()).add((str(row["device"]), str(row["torch"])))
    mixed = [str(seed) for seed, kinds in sorted(of_seed.items()) if len(kinds) > 1]
    if mixed:
        yield (
            f"Runs of one seed were made on several of these (seeds {', '.join(mixed)}): part of a "
            "difference may come from that."
        )


def _figures(rows: Rows) -> tuple[tuple[str, str], ...]:
    seeds = seeds_by_arm(rows)
    counts = sorted({len(of_arm) for of_arm in seeds.values()})
    figures = [(str(len(seeds)), "arms" if len(seeds) > 1 else "arm")]
    ends = " to ".join(map(str, dict.fromkeys((counts[0], counts[-1]))))
    figures.append((ends, "seed an arm" if counts[-1] == 1 else "seeds an arm"))
    figures.append((str(len(rows)), "finished runs"))
    for key, what in (("generated", "images generated a run"), ("optimizer_steps", "steps a run")):
        found = sorted(_whole_numbers(rows, key) - {0})
        if found:
            values = dict.fromkeys((found[0], found[-1]))
            figures.append((" to ".join(f"{value:,}" for value in values), what))
    return tuple(figures)


def _whole_numbers(rows: Rows, key: str) -> set[int]:
    by_arm = values_by_arm(rows, key)
    return {round(value) for values in by_arm.values() for value in values.values()}
