"""`gendataagent report`, `doctor` and `config`: inspect a run, this machine, the settings."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from gendataagent.cli.console import show, write
from gendataagent.cli.shared import (
    ConfigOption,
    DataOption,
    PresetOption,
    SetOption,
    StrategyOption,
    app,
    settings_from,
    warn_of_damage,
)
from gendataagent.config.settings import Setting, SettingRow, iterate_settings
from gendataagent.core.errors import ConfigError
from gendataagent.core.suggestions import closest


@app.command()
def report(
    run_folder: Annotated[Path, typer.Argument(help="run folder, finished or not")],
    out: Annotated[Path | None, typer.Option(help="file to write; default RUN/report.html")] = None,
) -> None:
    """Write a report on a run: one HTML file that works offline."""
    from gendataagent.report import write_report

    write(str(write_report(run_folder, out, on_problem=warn_of_damage)))


@app.command()
def doctor(
    folder: Annotated[Path, typer.Argument(help="where runs would be written")] = Path("."),
    data: DataOption = None,
) -> None:
    """Check Python, packages, device, memory, disk and models; print a fix for each problem.

    With --data also: whether the bundled generator can draw the classes of your images.
    """
    from gendataagent.runs.doctor import examine

    colours = {"ok": "green", "note": "yellow", "wrong": "red"}
    findings = examine(folder, data)
    table = Table(box=None, pad_edge=False)
    for column in ("what", "", "found", "to fix it"):
        table.add_column(column, overflow="fold")
    for finding in findings:
        mark = Text(finding.state, style=colours[finding.state])
        table.add_row(finding.what, mark, finding.found, finding.fix)
    show(table)
    if any(finding.state == "wrong" for finding in findings):
        raise typer.Exit(1)


@app.command(name="config")
def show_config(
    key: Annotated[
        str | None, typer.Argument(help="one setting (training.epochs) or a section (training)")
    ] = None,
    preset: PresetOption = None,
    strategy: StrategyOption = None,
    config: ConfigOption = None,
    set_: SetOption = None,
    toml: Annotated[bool, typer.Option("--toml", help="print as a file for --config")] = False,
) -> None:
    """Print the settings: value, default, unit, range, source and meaning.

    Into a pipe or a file: one setting a line, as TOML.
    """
    settings = settings_from(config, {}, set_ or [], preset, strategy)
    if toml:
        write(settings.to_toml().rstrip("\n"))
        return
    rows = list(iterate_settings(settings))
    if key is not None:
        write("\n\n".join(_details(row) for row in _chosen(key, rows)))
    elif sys.stdout.isatty():
        show(_table(rows))
    else:
        for row in rows:
            unit = f" Unit: {row.setting.unit}." if row.setting.unit else ""
            write(f"{row.key} = {_value(row.value)}  # {_meaning(row)}{unit}")


def _chosen(key: str, rows: Sequence[SettingRow]) -> list[SettingRow]:
    """Return the setting `key`, or the settings of the section `key`."""
    chosen = [row for row in rows if row.key == key or row.key.startswith(f"{key}.")]
    if chosen:
        return chosen
    keys = [row.key for row in rows]
    sections = list(dict.fromkeys(key.partition(".")[0] for key in keys if "." in key))
    names = [*sections, *keys, *(key.rpartition(".")[2] for key in keys)]
    close = closest(key, names)
    meant = [name for name in [*sections, *keys] if close and f".{name}".endswith(f".{close[0]}")]
    hint = f"did you mean {' or '.join(meant)}?" if meant else f"sections: {', '.join(sections)}"
    raise ConfigError(f"there is no setting or section {key!r}; {hint}")


def _table(rows: Sequence[SettingRow]) -> Table:
    table = Table(box=None, pad_edge=False, show_edge=False)
    table.add_column("setting", no_wrap=True)
    for column in ("value", "meaning"):
        table.add_column(column, overflow="fold")
    for row in rows:
        unit = f" {row.setting.unit}" if row.setting.unit and row.setting.unit != "epoch" else ""
        changed = "" if row.value == row.default else f" (default {_value(row.default)})"
        value = f"{_value(row.value)}{unit}{changed}"
        table.add_row(row.key, value, _meaning(row))
    return table


def _meaning(row: SettingRow) -> str:
    choices = f" One of: {', '.join(row.setting.choices)}." if row.setting.choices else ""
    source = f" Paper: {row.setting.source}." if row.setting.source else ""
    return f"{row.setting.help}.{choices}{source}"


def _details(row: SettingRow) -> str:
    facts = {
        "default": _value(row.default),
        "unit": row.setting.unit,
        "range": _range(row.setting),
        "source": f"paper, {row.setting.source}" if row.setting.source else "",
        "meaning": row.setting.help,
        "resume": "" if row.setting.affects_results else "may change; results stay the same",
    }
    lines = [f"  {name:<9}{text}" for name, text in facts.items() if text]
    return "\n".join([f"{row.key} = {_value(row.value)}", *lines])


def _range(setting: Setting) -> str:
    if setting.choices:
        return f"one of {', '.join(setting.choices)}"
    limits = {"at least": setting.at_least, "above": setting.above, "at most": setting.at_most}
    return ", ".join(f"{word} {limit:g}" for word, limit in limits.items() if limit is not None)


def _value(value: Any) -> str:
    """Return a value as TOML has it."""
    if isinstance(value, tuple):
        return f"[{', '.join(map(_value, value))}]"
    return json.dumps(value, ensure_ascii=False)
