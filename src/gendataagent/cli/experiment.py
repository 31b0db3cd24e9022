"""`gendataagent experiment` and `compare`: strategies against each other, with intervals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from gendataagent.cli.console import ConsoleProgress, say, show
from gendataagent.cli.screening import screen_images
from gendataagent.cli.shared import (
    EpochsOption,
    GeneratorOption,
    PresetOption,
    SetOption,
    TrustOption,
    app,
    settings_from,
    shortcuts,
)
from gendataagent.config.settings import apply_overrides
from gendataagent.core.errors import ConfigError, GenerationError

if TYPE_CHECKING:
    from gendataagent.experiments import Benchmark
    from gendataagent.experiments.report import Report
    from gendataagent.experiments.tables import ResultTable


@app.command()
def experiment(
    name: Annotated[str | None, typer.Argument(help="benchmark; leave out to list all")] = None,
    out: Annotated[Path | None, typer.Option(help="folder for runs and results")] = None,
    data: Annotated[str | None, typer.Option(help="your own images (data.path)")] = None,
    arms: Annotated[
        str | None, typer.Option(help="comma-separated subset, strategies or .toml files")
    ] = None,
    seeds: Annotated[
        str | None, typer.Option(help="count, range or list: 5 (means 0 to 4), 10-19, 0,3,7")
    ] = None,
    jobs: Annotated[
        int,
        typer.Option(help="parallel runs, one thread each; 0 = one a GPU, else one a core", min=0),
    ] = 0,
    preset: PresetOption = None,
    generator: GeneratorOption = None,
    epochs: EpochsOption = None,
    hours: Annotated[
        float, typer.Option(help="my-photos: start no run that would end later; 0 = all", min=0)
    ] = 0.0,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="list the runs and exit")] = False,
    set_: SetOption = None,
    trust_remote_code: TrustOption = False,
) -> None:
    """Compare strategies over seeds at equal budget: tables, plots, paired differences.

    Interrupted at any moment, the same command with the same --out resumes.

    gendataagent experiment my-photos --data photos/ --preset quick --hours 8

    gendataagent experiment fewshot-cifar10 --arms only-real,gendataagent --seeds 3
    """
    from gendataagent.experiments import (
        all_benchmarks,
        find_benchmark,
        plan_experiment,
        run_experiment,
    )
    from gendataagent.experiments.benchmarks import parse_seeds
    from gendataagent.experiments.screening import MY_PHOTOS

    if name is None:
        about = [(benchmark.name, benchmark.about) for benchmark in all_benchmarks()]
        _list(
            [*about, (MY_PHOTOS, "which strategy pays on your own images, and the command to run")]
        )
        return
    chosen = [arm.strip() for arm in (arms or "").split(",") if arm.strip()]
    if name == MY_PHOTOS:
        given = shortcuts(
            data=data, generator=generator, rounds=None, epochs=epochs, seed=None, baseline=False
        )
        if trust_remote_code:
            given["trust_remote_code"] = True
        config = settings_from(None, given, set_ or [], preset)
        screen_images(config, chosen, out, seeds=seeds, hours=hours, jobs=jobs, dry_run=dry_run)
        return
    for option, value in {"preset": preset, "generator": generator, "epochs": epochs,
                          "hours": hours or None}.items():  # fmt: skip
        if value is not None:
            raise ConfigError(
                f"--{option} is for {MY_PHOTOS}; a benchmark has settings of its own, changed "
                "with --set SECTION.KEY=VALUE"
            )
    benchmark = find_benchmark(name)
    if arms is not None:
        benchmark = benchmark.with_arms(chosen)
    if seeds is not None:
        benchmark = replace(benchmark, seeds=parse_seeds(seeds))
    settings = apply_overrides({}, set_ or [])
    if data is not None:
        settings.setdefault("data", {})["path"] = data
    if trust_remote_code:
        settings["trust_remote_code"] = True
    benchmark = benchmark.with_settings(settings)
    folder = out or Path("runs") / benchmark.folder_name
    say(f"{benchmark.name}: {benchmark.about}")
    if dry_run:
        tasks = plan_experiment(benchmark, settings, progress=ConsoleProgress())
        _list([(f"{task.arm}, seed {task.seed}", task.name) for task in tasks])
        return
    try:
        rows = run_experiment(
            benchmark,
            folder,
            settings=settings,
            jobs=jobs,
            progress=ConsoleProgress(),
        )
    except KeyboardInterrupt:
        say(f"interrupted; to resume, run the same command with --out {folder}", to_error=True)
        raise
    except GenerationError:
        _show_finished(folder, benchmark)
        raise
    _show(rows, folder, benchmark)


def _show(rows: list[dict[str, Any]], folder: Path, benchmark: Benchmark) -> None:
    from gendataagent.experiments.report import baselines_of, tables_of
    from gendataagent.experiments.writing import write_results

    write_results(rows, folder, benchmark=benchmark)
    _show_tables(tables_of(rows, baselines=baselines_of(benchmark)[:2], brief=True))
    say(f"results: {folder / 'results.html'}, also as results.md")
    _say_if_no_plots()


def _show_finished(folder: Path, benchmark: Benchmark) -> None:
    """Write the results of the finished runs when others failed."""
    from gendataagent.experiments import read_rows
    from gendataagent.experiments.experiment import RESULTS_FILE
    from gendataagent.experiments.writing import write_results

    if (folder / RESULTS_FILE).is_file():
        write_results(read_rows(folder / RESULTS_FILE), folder, benchmark=benchmark)
        say(f"results of the finished runs: {folder / 'results.html'}", to_error=True)


def _say_if_no_plots() -> None:
    from gendataagent.experiments.plots import can_plot
    from gendataagent.experiments.report import NO_PLOTS

    if not can_plot():
        say(NO_PLOTS, to_error=True)


@app.command()
def compare(
    runs: Annotated[list[Path], typer.Argument(help="folders of finished runs or of experiments")],
    out: Annotated[
        Path | None,
        typer.Option(help="write tables and plots to FILE.html, FILE.md or a folder (both)"),
    ] = None,
) -> None:
    """Compare any finished runs; runs that share a seed are paired.

    The first folder is the baseline.
    """
    from gendataagent.experiments.compare import rows_to_compare
    from gendataagent.experiments.report import comparison_report, tables_of

    if out is not None and out.suffix not in ("", ".html", ".md") and not out.is_dir():
        raise ConfigError(f"--out must end in .html or .md, or be a folder; got {out}")
    rows = rows_to_compare(runs)
    if len(rows) < 2:
        raise ConfigError(
            f"compare needs at least two finished runs, got {len(rows)}; give their folders"
        )
    _show_tables(tables_of(rows, baselines=(rows[0]["arm"],), brief=True))
    if out is not None:
        say(f"written: {_write(comparison_report(rows), out, runs)}")
        _say_if_no_plots()


def _write(report: Report, out: Path, runs: Sequence[Path]) -> Path:
    """Write a report in the format of `out`'s suffix; return the file to open.

    Args:
        runs: folders that were compared.
    """
    from gendataagent.experiments.writing import write_folder, write_html, write_markdown

    if out.suffix == ".html" and not out.is_dir():
        return write_html(report, out, runs)
    if out.suffix == ".md" and not out.is_dir():
        return write_markdown(report, out, plots_folder=f"{out.stem}-plots")
    write_folder(report, out, runs)
    return out / "results.html"


def _list(rows: Sequence[tuple[str, str]]) -> None:
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for row in rows:
        table.add_row(*row)
    show(table)


def _show_tables(tables: Sequence[ResultTable]) -> None:
    for result in tables:
        table: Any = Table(box=None, pad_edge=False, title=result.title, title_justify="left")
        for number, title in enumerate(result.head):
            table.add_column(Text(title), justify="right" if number else "left", overflow="fold")
        for row in result.rows:
            table.add_row(*map(Text, row))
        show(table)
        show()
