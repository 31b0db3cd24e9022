"""`gendataagent rows`: the rows of a parquet file as text."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from gendataagent.cli.console import write
from gendataagent.cli.shared import app


@app.command()
def rows(
    file: Annotated[Path, typer.Argument(help="RUN/rounds/000/judged.parquet, or any other")],
    columns: Annotated[
        str | None, typer.Option(help="only these, such as id,prompt,rejected_by")
    ] = None,
    count: Annotated[int | None, typer.Option("-n", min=1, help="only the first")] = None,
) -> None:
    """Print the rows of a parquet file, one JSON object a line."""
    from gendataagent.core.record_table import iterate_rows

    names = columns.split(",") if columns is not None else None
    for row in iterate_rows(file, names, count):
        write(json.dumps(row, ensure_ascii=False, default=str))
