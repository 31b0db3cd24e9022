"""`gendataagent experiment` and `compare`: arms against each other, with intervals."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from gendataagent.cli.console import ConsoleProgress
from gendataagent.cli.shared import SetOption, app
from gendataagent.config.settings import apply_overrides
from gendataagent.core.errors import ConfigError, GenerationError

if TYPE_CHECKING:
    from gendataagent.experiments import Bench
    from gendataagent.experiments.report import Report
    from gendataagent.experiments.tables import ResultTable


@app.command()
def experiment(
    name: Annotated[
        str | None, typer.Argument(help="which one; leave out for a list of all")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="folder for runs and results")] = None,
    data: Annotated[str | None, typer.Option(help="your images instead; data.path")] = None,
    arms: Annotated[
        str | None, typer.Option(help="only these, with commas; strategies and .toml files too")
    ] = None,
    seeds: Annotated[
        str | None, typer.Option(help="how many, or which: 5 (0 to 4), 10-19, 0,3,7")
    ] = None,
    jobs: Annotated[
        int, typer.Option(help="runs at a time, one thread each; 0 = one a core", min=0)
    ] = 0,
    equal_time: Annotated[
        str | None,
        typer.Option(metavar="ARM", help="once it is finished: again, each for the time of ARM"),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="list the runs, run none")] = False,
    set_: SetOption = None,
) -> None:
    """Run arms x seeds at equal budget; print and plot means, deviations and paired differences.

    Stopped at any moment and started again with the same --out, it goes on where it was.
    """
    from gendataagent.experiments import all_benches, find_bench, plan_experiment, run_experiment
    from gendataagent.experiments.report import baselines_of, tables_of
    from gendataagent.experiments.writing import write_results

    if name is None:
        _list([(bench.name, bench.about) for bench in all_benches()])
        return
    bench = find_bench(name)
    if arms is not None:
        bench = bench.with_arms([arm.strip() for arm in arms.split(",") if arm.strip()])
    if seeds is not None:
        bench = replace(bench, seeds=_seeds_of(seeds))
    settings = apply_overrides({}, set_ or [])
    if data is not None:
        settings.setdefault("data", {})["path"] = data
    folder = out or Path("runs") / f"experiment-{bench.name}"
    if equal_time is not None:
        _at_equal_time(bench, folder, equal_time, settings, jobs=jobs, dry_run=dry_run)
        return
    if dry_run:
        tasks = plan_experiment(bench, settings)
        _list([(f"{task.arm}, seed {task.seed}", task.name) for task in tasks])
        return
    try:
        rows = run_experiment(
            bench,
            folder,
            settings=settings,
            jobs=jobs or os.cpu_count() or 1,
            progress=ConsoleProgress(),
        )
    except KeyboardInterrupt:
        _say(f"stopped; the same command with --out {folder} goes on", to_error=True)
        raise
    except GenerationError:
        _show_finished(folder, bench)
        raise
    write_results(rows, folder, bench=bench)
    _print_tables(tables_of(rows, baselines=baselines_of(bench)[:2], brief=True))
    _say(f"all measures, comparisons and plots: {folder / 'results.html'}, also as results.md")


def _seeds_of(text: str) -> tuple[int, ...]:
    """Return the seeds that "5", "10-19" or "0,3,7" stands for, each once, in that order."""
    if re.fullmatch(r"\s*[1-9]\d*\s*", text):
        return tuple(range(int(text)))
    seeds: list[int] = []
    for part in text.split(","):
        match = re.fullmatch(r"\s*(\d+)\s*(?:-\s*(\d+)\s*)?", part)
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (1, 0)
        if last < first:
            raise ConfigError(
                f"--seeds {text!r} names no seeds; give how many (5 stands for 0 to 4), a range "
                "(10-19) or a list (0,3,7)"
            )
        seeds.extend(range(first, last + 1))
    return tuple(dict.fromkeys(seeds))


def _at_equal_time(
    bench: Bench,
    folder: Path,
    reference: str,
    settings: dict[str, Any],
    *,
    jobs: int,
    dry_run: bool,
) -> None:
    """Run a finished experiment again, every arm for the wall-clock time of one."""
    from gendataagent.experiments import plan_equal_time, run_equal_time
    from gendataagent.experiments.report import baselines_of, tables_of

    if dry_run:
        tasks, _ = plan_equal_time(bench, folder, reference=reference, settings=settings)
        _list([(f"{task.arm}, seed {task.seed}", task.name) for task in tasks])
        return
    try:
        rows = run_equal_time(
            bench,
            folder,
            reference=reference,
            settings=settings,
            jobs=jobs or os.cpu_count() or 1,
            progress=ConsoleProgress(),
        )
    except KeyboardInterrupt:
        _say(f"stopped; the same command with --out {folder} goes on", to_error=True)
        raise
    _print_tables(tables_of(rows, baselines=baselines_of(bench)[:2], brief=True))
    page = folder / "results-equal-time.html"
    _say(f"all measures, comparisons, plots and what the time was worked out from: {page}")


def _show_finished(folder: Path, bench: Bench) -> None:
    """Write the results of the runs that did finish, where others failed."""
    from gendataagent.experiments import read_rows
    from gendataagent.experiments.experiment import RESULTS_FILE
    from gendataagent.experiments.writing import write_results

    if (folder / RESULTS_FILE).is_file():
        write_results(read_rows(folder / RESULTS_FILE), folder, bench=bench)
        _say(f"what is finished: {folder / 'results.html'}", to_error=True)


@app.command()
def compare(
    runs: Annotated[
        list[Path], typer.Argument(help="folders of finished runs, or of experiments with all runs")
    ],
    out: Annotated[
        Path | None,
        typer.Option(help="write tables and plots: PAGE.html, TEXT.md, or a folder for both"),
    ] = None,
) -> None:
    """Print any finished runs side by side; runs that share a seed are paired.

    What is named first is what the others are compared with.
    """
    from gendataagent.experiments.compare import rows_to_compare
    from gendataagent.experiments.report import report_of_runs, tables_of

    if out is not None and out.suffix not in ("", ".html", ".md") and not out.is_dir():
        raise ConfigError(f"--out must be a folder or end in .html or .md; got {out}")
    rows = rows_to_compare(runs)
    if len(rows) < 2:
        raise ConfigError("compare needs at least two finished runs; name their folders")
    _print_tables(tables_of(rows, baselines=(rows[0]["arm"],), brief=True))
    if out is not None:
        _say(f"written: {_write(report_of_runs(rows), out)}")


def _write(report: Report, out: Path) -> Path:
    """Write a report in the form that the name of `out` asks for; return the file to look at."""
    from gendataagent.experiments.writing import write_folder, write_html, write_markdown

    if out.suffix == ".html" and not out.is_dir():
        return write_html(report, out)
    if out.suffix == ".md" and not out.is_dir():
        return write_markdown(report, out, plots_folder=f"{out.stem}-plots")
    write_folder(report, out)
    return out / "results.html"


def _say(sentence: str, *, to_error: bool = False) -> None:
    Console(stderr=to_error).print(sentence, markup=False, soft_wrap=True)


def _list(rows: Sequence[tuple[str, str]]) -> None:
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for row in rows:
        table.add_row(*row)
    Console().print(table)


def _print_tables(tables: Sequence[ResultTable]) -> None:
    for result in tables:
        table: Any = Table(box=None, pad_edge=False, title=result.title, title_justify="left")
        for number, title in enumerate(result.head):
            table.add_column(Text(title), justify="right" if number else "left", overflow="fold")
        for row in result.rows:
            table.add_row(*map(Text, row))
        Console().print(table)
        Console().print()
