"""`gendataagent report`, `doctor` and `config`: look at a run, this machine, the settings."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from gendataagent.cli.shared import (
    ConfigOption,
    PresetOption,
    SetOption,
    StrategyOption,
    app,
    settings_from,
)
from gendataagent.config.settings import iterate_settings


@app.command()
def report(
    run_folder: Annotated[Path, typer.Argument(help="folder of a run, finished or not")],
    out: Annotated[Path | None, typer.Option(help="file to write; RUN/report.html")] = None,
) -> None:
    """Write a page of images and figures about a run: one HTML file that works offline."""
    from gendataagent.report import write_report

    print(write_report(run_folder, out))


@app.command()
def doctor(
    folder: Annotated[Path, typer.Argument(help="where runs would be written")] = Path("."),
) -> None:
    """Look at Python, packages, device, memory, disk and models; say what to type to mend."""
    from gendataagent.runs.doctor import examine

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
    preset: PresetOption = None,
    strategy: StrategyOption = None,
    config: ConfigOption = None,
    set_: SetOption = None,
    toml: Annotated[bool, typer.Option("--toml", help="print as a file for --config")] = False,
) -> None:
    """Print every setting: value, unit, meaning and source."""
    settings = settings_from(config, {}, set_ or [], preset, strategy)
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
