"""The results of an experiment: tables, plots, how they were made and their limits."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gendataagent.core.errors import ConfigError
from gendataagent.experiments.benchmarks import Benchmark
from gendataagent.experiments.plots import INSTALL, Plot, can_plot, plot_sections
from gendataagent.experiments.tables import (
    COMPARED,
    ResultTable,
    classes_table,
    differences_table,
    measures_table,
    seeds_by_arm,
    settings_table,
    values_by_arm,
)

CORPUS_NOTE = (
    "The bundled generator was trained on 39,280 other CIFAR-10 photographs, as Stable Diffusion "
    "was trained on the web; it can draw no other classes."
)
NO_PLOTS = f"No plots: matplotlib is not installed; {INSTALL}."
HOW_TO_READ = (
    "A star marks a difference whose 95 % interval (Student's t, paired by seed) excludes zero. "
    "Intervals are not corrected for multiple comparisons.",
    "`seconds` is the wall-clock time of a run; images taken from another run cost nothing.",
    "n is the number of seeds, given where it differs from that of the row.",
)
SECONDS_ALONE = (
    "`seconds alone` is the cost of a run on its own: median time of a step, an image and a "
    "caption over these runs, times their numbers."
)
COVERAGE = (
    "Precision, recall, density and coverage compare synthetic with validation images in the "
    "features of each run's own classifier, class by class (5 neighbours); so do the cosine "
    "distances to the source. They say little across classifiers of different accuracy."
)
MAIN_RIVALS = ("only-real", "randaugment", "real-fake", "internet-explorer", "random-drop")
Rows = Sequence[Mapping[str, Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """Content of the results, before any format.

    Args:
        about: one line on what was compared.
        facts: sentences on how the runs were made and how to read the results; words in `code`.
        figures: a few figures at a glance, each with its label.
        measures: the table of all measures.
        differences: a table of differences for each compared measure.
        classes, settings: what the arms reach in each class, and what they differ in; if known.
        runs: arm, seed and name of each run.
        sections: heading -> plots.
    """

    title: str
    about: str
    facts: tuple[str, ...]
    figures: tuple[tuple[str, str], ...]
    measures: ResultTable
    differences: tuple[ResultTable, ...]
    classes: ResultTable | None
    settings: ResultTable | None
    runs: tuple[tuple[str, int, str], ...]
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


def baselines_of(benchmark: Benchmark) -> list[str]:
    """Return the arms that all others are compared with."""
    return list(dict.fromkeys([benchmark.baseline, *MAIN_RIVALS]))


def benchmark_report(rows: Rows, benchmark: Benchmark, findings: Sequence[str] = ()) -> Report:
    """Return the report of an experiment's rows; raise `ConfigError` if there are none.

    Args:
        findings: sentences that come first.
    """
    corpus = (CORPUS_NOTE,) if benchmark.base["generation"]["generator"] == "tiny-sd" else ()
    return _report(
        rows,
        title=benchmark.title,
        about=f"Experiment `{benchmark.name}`: {benchmark.about}.",
        findings=findings,
        facts=corpus,
        baselines=baselines_of(benchmark),
        paper=benchmark.paper,
    )


def comparison_report(rows: Rows) -> Report:
    """Return the report of any finished runs, compared with the first; `ConfigError` if none."""
    return _report(
        rows,
        title="comparison",
        about="Finished runs side by side; runs that share a seed are paired.",
        facts=("Runs whose settings differ only in the seed are one arm.",),
        baselines=[rows[0]["arm"]] if rows else [],
        paper={},
    )


def _report(
    rows: Rows,
    *,
    title: str,
    about: str,
    facts: tuple[str, ...],
    findings: Sequence[str] = (),
    baselines: Sequence[str],
    paper: Mapping[str, str],
) -> Report:
    if not rows:
        raise ConfigError("no finished run to show; run the experiment first")
    present = [name for name in baselines if name in seeds_by_arm(rows)]
    present = present or [rows[0]["arm"]]
    measures, *differences = tables_of(rows, baselines=present, paper=paper)
    how_to_read = [*HOW_TO_READ]
    if values_by_arm(rows, "seconds_alone"):
        how_to_read.insert(2, SECONDS_ALONE)
    if values_by_arm(rows, "coverage"):
        how_to_read.append(COVERAGE)
    if not can_plot():
        how_to_read.append(NO_PLOTS)
    return Report(
        title=title,
        about=about,
        facts=(*findings, *_facts(rows), *facts, *how_to_read),
        figures=_figures(rows),
        measures=measures,
        differences=tuple(differences),
        classes=classes_table(rows, present[0]),
        settings=settings_table(rows),
        runs=tuple((row["arm"], row["seed"], row["run"]) for row in rows if row.get("run")),
        sections=plot_sections(rows, present[0]) if can_plot() else {},
    )


def _facts(rows: Rows) -> Iterator[str]:
    seeds = seeds_by_arm(rows)
    every = sorted(set().union(*seeds.values()))
    yield f"{len(rows)} runs; seeds {', '.join(map(str, every))}."
    if len(every) == 1:
        yield (
            "**One seed: no intervals, an effect cannot be told from noise.** Run more seeds "
            "before drawing conclusions."
        )
    lacking = [f"`{arm}` ({len(of)})" for arm, of in seeds.items() if len(of) < len(every)]
    if len(lacking) == len(seeds):
        yield "No arm has all seeds; a difference is over the seeds that both arms share."
    elif lacking:
        yield f"Fewer than {len(every)} seeds: {', '.join(lacking)}."
    yield from _made_on(rows)
    yield from _trained_on(rows)
    steps = sorted(_whole_numbers(rows, "optimizer_steps"))
    if len(steps) == 1:
        yield f"Optimiser steps: {steps[0]:,} in every arm."
    elif steps:
        yield (
            f"Optimiser steps differ, from {steps[0]:,} to {steps[-1]:,}, which may explain part "
            "of a difference."
        )


def _made_on(rows: Rows) -> Iterator[str]:
    """Yield the devices of the runs, and the seeds whose arms ran on different ones."""
    known = [row for row in rows if row.get("device")]
    if not known:
        return
    runs = Counter((str(row["device"]), str(row["torch"])) for row in known)
    days = sorted({str(row["made"]) for row in known})
    where = ", ".join(f"{n} on {device} with torch {version}" for (device, version), n in
                      runs.most_common())  # fmt: skip
    yield f"Runs of {' to '.join(dict.fromkeys((days[0], days[-1])))}: {where}."
    of_seed: dict[int, set[tuple[str, str]]] = {}
    for row in known:
        of_seed.setdefault(row["seed"], set()).add((str(row["device"]), str(row["torch"])))
    mixed = [str(seed) for seed, kinds in sorted(of_seed.items()) if len(kinds) > 1]
    if mixed:
        yield (
            f"Arms of one seed ran on different devices (seeds {', '.join(mixed)}), which may "
            "explain part of a difference."
        )


def _trained_on(rows: Rows) -> Iterator[str]:
    """Yield the data of the runs, and the seeds whose arms were trained on different images."""
    places = dict.fromkeys(str(row["data"]) for row in rows if row.get("data"))
    if places:
        yield f"Data: {', '.join(f'`{place}`' for place in places)}."
    of_seed: dict[int, set[str]] = {}
    for row in rows:
        if row.get("train_images"):
            of_seed.setdefault(row["seed"], set()).add(str(row["train_images"]))
    mixed = [str(seed) for seed, kinds in sorted(of_seed.items()) if len(kinds) > 1]
    if mixed:
        yield (
            f"**Arms of one seed were trained on different images** (seeds {', '.join(mixed)}), "
            "which may explain part of a difference."
        )


def _figures(rows: Rows) -> tuple[tuple[str, str], ...]:
    seeds = seeds_by_arm(rows)
    counts = sorted({len(of_arm) for of_arm in seeds.values()})
    figures = [(str(len(seeds)), "arms" if len(seeds) > 1 else "arm")]
    ends = " to ".join(map(str, dict.fromkeys((counts[0], counts[-1]))))
    figures.append((ends, "seed per arm" if counts[-1] == 1 else "seeds per arm"))
    figures.append((str(len(rows)), "finished runs"))
    for key, what in (
        ("generated", "images generated per run"),
        ("optimizer_steps", "steps per run"),
    ):
        found = sorted(_whole_numbers(rows, key) - {0})
        if found:
            values = dict.fromkeys((found[0], found[-1]))
            figures.append((" to ".join(f"{value:,}" for value in values), what))
    return tuple(figures)


def _whole_numbers(rows: Rows, key: str) -> set[int]:
    by_arm = values_by_arm(rows, key)
    return {round(value) for values in by_arm.values() for value in values.values()}
