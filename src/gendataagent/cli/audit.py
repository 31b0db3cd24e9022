"""`gendataagent audit`: near-duplicates of test and validation images."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from gendataagent.cli.console import ConsoleProgress, say, show
from gendataagent.cli.shared import (
    ConfigOption,
    DataOption,
    PresetOption,
    SeedOption,
    SetOption,
    app,
    settings_from,
)
from gendataagent.config.run_config_file import read_run_config
from gendataagent.core.errors import ConfigError

if TYPE_CHECKING:
    from gendataagent.runs.audit import Audit, AuditedSet

EXAMPLES = 2


@app.command()
def audit(
    data: DataOption = None,
    corpus: Annotated[
        Path | None, typer.Option(help="images the generator was trained on: folder or parquet")
    ] = None,
    run_folder: Annotated[
        Path | None,
        typer.Option("--run", help="run folder: audit its data and its synthetic images"),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="file for the pairs: .html with images, or .jsonl")
    ] = None,
    seed: SeedOption = None,
    preset: PresetOption = None,
    config: ConfigOption = None,
    set_: SetOption = None,
) -> None:
    """Count near-duplicates of test and validation images in train, a corpus or a run.

    Reports only; what a run removes is the setting data.near_duplicates.
    """
    from gendataagent.core.run_folder import RunFolder
    from gendataagent.report.audit_page import check_out, write_audit
    from gendataagent.runs.audit import audit_data

    if out is not None:
        check_out(out)
    if data is None and run_folder is None and config is None and preset is None:
        raise ConfigError("name what to audit: --data DIR, or --run RUN")
    given = {"data.path": data, "seed": seed}
    given = {key: value for key, value in given.items() if value is not None}
    settings = settings_from(config, given, set_ or [], preset)
    if run_folder is not None:
        own = read_run_config(RunFolder.open(run_folder))
        settings = own if data is None else replace(own, data=replace(own.data, path=data))
    found = audit_data(
        settings.data,
        seed=settings.seed,
        corpus=corpus,
        run=run_folder,
        progress=ConsoleProgress(),
    )
    show(_table(found))
    for note in found.notes:
        say(note)
    if out is not None:
        write_audit(found, out)
        say(f"written: {out}")


def _table(audit: Audit) -> Table:
    from gendataagent.data.duplicates.near_duplicates import DUPLICATE_CORRELATION

    table = Table(
        box=None,
        pad_edge=False,
        title="Near-duplicates of test and validation images (laid over each other, they correlate "
        f"more than {DUPLICATE_CORRELATION:g}; also turned, mirrored or cropped)",
        title_justify="left",
    )
    table.add_column("set")
    for heading in ("images", "of test", "of validation"):
        table.add_column(heading, justify="right")
    table.add_column("closest pairs", overflow="fold")
    for one in audit.sets:
        table.add_row(
            one.title,
            f"{len(one.images):,}",
            *(_count(one, split) for split in ("test", "validation")),
            _examples(one),
        )
    return table


def _count(one: AuditedSet, split: str) -> str:
    return f"{len(one.reports[split].ids):,}" if split in one.reports else ""


def _examples(one: AuditedSet) -> str:
    pairs = [pair for report in one.reports.values() for pair in report.duplicates]
    pairs.sort(key=lambda pair: -pair.correlation)
    return "\n".join(
        f"{pair.id} = {pair.reference_id} ({pair.correlation:.3f}"
        f"{', mirrored' if pair.mirrored else ''})"
        for pair in pairs[:EXAMPLES]
    )
