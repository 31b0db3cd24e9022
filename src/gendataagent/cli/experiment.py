"""`gendataagent experiment` and `compare`: arms against each other, with intervals."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from gendataagent.cli.shared import SetOption, app
from gendataagent.console import ConsoleProgress
from gendataagent.errors import ConfigError
from gendataagent.settings import apply_overrides

if TYPE_CHECKING:
    from gendataagent.experiments.tables import ResultTable


@app.command()
def experiment(
    name: Annotated[
        str | None, typer.Argument(help="which one; leave out for a list of all")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="folder for runs and results")] = None,
    data: Annotated[str | None, typer.Option(help="your pictures instead; data.path")] = None,
    arms: Annotated[
        str | None, typer.Option(help="only these, with commas; strategies and .toml files too")
    ] = None,
    seeds: Annotated[int | None, typer.Option(help="number of seeds", min=1)] = None,
    jobs: Annotated[
        int, typer.Option(help="runs at a time, one thread each; 0 = one a core", min=0)
    ] = 0,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="list the runs, run none")] = False,
    set_: SetOption = None,
) -> None:
    """Run arms x seeds at equal budget and print means, deviations and paired differences.

    Stopped at any moment and started again with the same --out, it goes on where it was.
    """
    from gendataagent.experiments import all_benches, find_bench, plan_experiment, run_experiment
    from gendataagent.experiments.report import baselines_of, tables_of, write_results

    if name is None:
        _list([(bench.name, bench.about) for bench in all_benches()])
        return
    bench = find_bench(name)
    if arms is not None:
        bench = bench.with_arms([arm.strip() for arm in arms.split(",") if arm.strip()])
    if seeds is not None:
        bench = replace(bench, seeds=tuple(range(seeds)))
    settings = apply_overrides({}, set_ or [])
    if data is not None:
        settings.setdefault("data", {})["path"] = data
    if dry_run:
        tasks = plan_experiment(bench, settings)
        _list([(f"{task.arm}, seed {task.seed}", task.name) for task in tasks])
        return
    folder = out or Path("runs") / f"experiment-{bench.name}"
    try:
        rows = run_experiment(
            bench,
            folder,
            settings=settings,
            jobs=jobs or os.cpu_count() or 1,
            progress=ConsoleProgress(),
        )
    except KeyboardInterrupt:
        Console(stderr=True).print(
            f"stopped; the same command with --out {folder} goes on", markup=False, soft_wrap=True
        )
        raise
    page = write_results(rows, folder, bench=bench)
    _print_tables(tables_of(rows, baselines=baselines_of(bench)[:2], brief=True))
    Console().print(f"all measures and comparisons: {page}", markup=False, soft_wrap=True)


@app.command()
def compare(
    runs: Annotated[list[Path], typer.Argument(help="folders of finished runs")],
    out: Annotated[Path | None, typer.Option(help="write the tables here, as Markdown")] = None,
) -> None:
    """Print any finished runs side by side; runs that share a seed are paired."""
    from gendataagent.experiments.collecting import rows_of_runs
    from gendataagent.experiments.report import tables_of

    rows = rows_of_runs(runs)
    if len(rows) < 2:
        raise ConfigError("compare needs at least two finished runs; name their folders")
    baselines = (rows[0]["arm"],)
    _print_tables(tables_of(rows, baselines=baselines, brief=True))
    if out is not None:
        from gendataagent.storage import write_bytes

        tables = tables_of(rows, baselines=baselines)
        write_bytes(out, "\n".join(table.markdown() for table in tables).encode())
        Console().print(f"written: {out}", markup=False, soft_wrap=True)


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
            table.add_column(title, justify="right" if number else "left", overflow="fold")
        for row in result.rows:
            table.add_row(*row)
        Console().print(table)
        Console().print()
