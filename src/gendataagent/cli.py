"""The command line: run, report, evaluate, doctor, config.

Heavy libraries are imported inside the commands that need them, so that --help stays quick.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from gendataagent import __version__
from gendataagent.components import problems
from gendataagent.config import RunConfig
from gendataagent.console import ConsoleProgress
from gendataagent.errors import ConfigError, GenDataAgentError
from gendataagent.settings import apply_overrides, iterate_settings, read_toml

if TYPE_CHECKING:
    from gendataagent.results import RunResult

app = typer.Typer(
    help="While your image classifier trains, an agent makes the training images it lacks.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
STOPPED_BY_USER = 130  # what shells report for Ctrl-C

ConfigOption = Annotated[Path | None, typer.Option("--config", help="settings as a TOML file")]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="SECTION.KEY=VALUE", help="one setting; may be repeated"),
]


@app.command()
def run(
    data: Annotated[
        str | None, typer.Option(help="image folder, parquet, or saved data set; data.path")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="new folder for the run")] = None,
    resume: Annotated[Path | None, typer.Option(help="go on with the run in this folder")] = None,
    generator: Annotated[
        str | None, typer.Option(help="hub id or path of a Stable Diffusion, or tiny-sd")
    ] = None,
    rounds: Annotated[int | None, typer.Option(help="on-the-fly iterations")] = None,
    epochs: Annotated[int | None, typer.Option(help="epochs of training")] = None,
    seed: Annotated[int | None, typer.Option(help="everything random derives from it")] = None,
    baseline: Annotated[
        bool, typer.Option("--baseline", help="train without the agent too, to compare")
    ] = False,
    config: ConfigOption = None,
    set_: SetOption = None,
) -> None:
    """Train a classifier on your pictures with the agent, or go on with a run that stopped."""
    shortcuts: dict[str, Any] = {
        "data.path": data,
        "generation.generator": generator,
        "agent.rounds": rounds,
        "training.epochs": epochs,
        "seed": seed,
        "agent.baseline": baseline or None,
    }
    given = {key: value for key, value in shortcuts.items() if value is not None}
    progress = ConsoleProgress()
    if resume is not None:
        if out is not None or config is not None:
            raise ConfigError(
                "--resume takes its settings from the run itself; leave out --out and --config"
            )
        result = _resume(resume, given, set_ or [], progress)
    else:
        settings = _settings(config, given, set_ or [])
        result = _start(settings, out or _new_run_folder(), progress)
    from gendataagent.report import write_report

    page = write_report(result.path)
    _print_result(result)
    Console().print(f"report: {page}", markup=False, soft_wrap=True)


@app.command()
def report(
    run_folder: Annotated[Path, typer.Argument(help="folder of a run, finished or not")],
    out: Annotated[Path | None, typer.Option(help="file to write; RUN/report.html")] = None,
) -> None:
    """Write a page of pictures and figures about a run: one HTML file that works offline."""
    from gendataagent.report import write_report

    print(write_report(run_folder, out))


@app.command()
def evaluate(
    run_folder: Annotated[Path, typer.Argument(help="folder of a finished run")],
    data: Annotated[
        str | None, typer.Option(help="other labelled pictures to measure the classifier on")
    ] = None,
) -> None:
    """Print how a run's classifier does on its test split, or on other pictures.

    The test split was measured once, when the run ended; this prints what was written down then.
    """
    from gendataagent.results import read_result

    result = read_result(run_folder)
    if data is None:
        _print_result(result)
        return
    from gendataagent.inspection import evaluate_on

    evaluation = evaluate_on(run_folder, data, progress=ConsoleProgress())
    Console().print(
        f"{evaluation.images} pictures: top-1 {evaluation.top1:.1%}, worst class "
        f"{evaluation.worst_class} {evaluation.worst_class_accuracy:.1%}, worst-case disparity "
        f"{evaluation.worst_case_disparity:.2f}",
        markup=False,
        soft_wrap=True,
    )


@app.command()
def doctor(
    folder: Annotated[Path, typer.Argument(help="where runs would be written")] = Path("."),
) -> None:
    """Look at Python, packages, device, memory, disk and models; say what to type to mend."""
    from gendataagent.doctor import examine

    marks = {"ok": "[green]ok[/]", "note": "[yellow]note[/]", "wrong": "[red]wrong[/]"}
    findings = examine(folder)
    table = Table(box=None, pad_edge=False)
    for column in ("what", "", "found", "to mend it"):
        table.add_column(column, overflow="fold")
    for finding in findings:
        table.add_row(finding.what, marks[finding.state], finding.found, finding.mend)
    Console().print(table)
    if any(finding.state == "wrong" for finding in findings):
        raise typer.Exit(1)


@app.command(name="config")
def show_config(
    config: ConfigOption = None,
    set_: SetOption = None,
    toml: Annotated[bool, typer.Option("--toml", help="print as a file for --config")] = False,
) -> None:
    """Print every setting: value, unit, meaning and source."""
    settings = _settings(config, {}, set_ or [])
    if toml:
        print(settings.to_toml(), end="")
        return
    table = Table(box=None, pad_edge=False, show_edge=False)
    for column in ("setting", "value", "meaning"):
        table.add_column(column, overflow="fold")
    for row in iterate_settings(settings):
        value = str(list(row.value)) if isinstance(row.value, tuple) else str(row.value)
        unit = f" {row.setting.unit}" if row.setting.unit and row.setting.unit != "epoch" else ""
        changed = "" if row.value == row.default else f" (default {row.default})"
        choices = f" One of: {', '.join(row.setting.choices)}." if row.setting.choices else ""
        source = f" Paper: {row.setting.source}." if row.setting.source else ""
        table.add_row(
            Text(row.key),
            Text(f"{value}{unit}{changed}"),
            Text(f"{row.setting.help}.{choices}{source}"),
        )
    Console().print(table)


@app.callback(invoke_without_command=True)
def _version(
    version: Annotated[bool, typer.Option("--version", help="print the version")] = False,
) -> None:
    if version:
        print(__version__)
        raise typer.Exit


def main() -> None:
    """Run the command line; errors made for users are printed without a traceback."""
    try:
        app()
    except GenDataAgentError as error:
        Console(stderr=True).print(f"error: {error}", style="red", markup=False, soft_wrap=True)
        sys.exit(2 if isinstance(error, ConfigError) else 1)
    except KeyboardInterrupt:
        sys.exit(STOPPED_BY_USER)


def _settings(config: Path | None, given: dict[str, Any], overrides: list[str]) -> RunConfig:
    """Return the settings of file, options and --set, in that order; refuse all faults at once."""
    tree = read_toml(config) if config is not None else {}
    tree = apply_overrides(tree, overrides)
    for key, value in given.items():
        *section, name = key.split(".")
        place = tree.setdefault(section[0], {}) if section else tree
        if isinstance(place, dict):
            place[name] = value
    return RunConfig.from_dict(tree, problems)


def _new_run_folder() -> Path:
    """Return runs/001, or the next number that is free."""
    number = 1
    while Path(f"runs/{number:03d}").exists():
        number += 1
    return Path(f"runs/{number:03d}")


def _start(settings: RunConfig, out: Path, progress: ConsoleProgress) -> RunResult:
    from gendataagent.run import run as start

    try:
        return start(settings, out, progress=progress)
    except KeyboardInterrupt:
        _say_how_to_resume(out)
        raise


def _resume(
    folder: Path, given: dict[str, Any], overrides: list[str], progress: ConsoleProgress
) -> RunResult:
    from gendataagent.run import resume
    from gendataagent.runfolder import RunFolder

    file = RunFolder.open(folder).config_file
    settings = _settings(file, given, overrides) if given or overrides else None
    try:
        return resume(folder, config=settings, progress=progress)
    except KeyboardInterrupt:
        _say_how_to_resume(folder)
        raise


def _say_how_to_resume(folder: Path) -> None:
    Console(stderr=True).print(
        f"stopped; go on with: gendataagent run --resume {folder}", markup=False, soft_wrap=True
    )


def _print_result(result: RunResult) -> None:
    """Print the short comparison of a finished run."""
    runs = {"with the agent" if result.rounds else "real images only": result}
    if result.baseline is not None:
        runs = {"real images only": result.baseline, **runs}
    table = Table(box=None, pad_edge=False, title="on the test split", title_justify="left")
    table.add_column("")
    for name in runs:
        table.add_column(name, justify="right", overflow="fold")
    for name, cell in _RESULT_ROWS.items():
        table.add_row(name, *(cell(finished) for finished in runs.values()))
    Console().print(table)


_RESULT_ROWS: dict[str, Callable[[RunResult], str]] = {
    "top-1": lambda r: f"{r.evaluations['test'].top1:.1%}",
    "worst class": lambda r: (
        f"{r.evaluations['test'].worst_class_accuracy:.1%} {r.evaluations['test'].worst_class}"
    ),
    "worst-case disparity": lambda r: f"{r.evaluations['test'].worst_case_disparity:.2f}",
    "images made / kept": lambda r: f"{r.images_made} / {r.images_kept}",
    "optimiser steps": lambda r: str(r.optimizer_steps),
    "time": lambda r: f"{r.total_seconds:.0f} s",
}


if __name__ == "__main__":
    main()
