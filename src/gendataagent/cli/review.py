"""`gendataagent review`: look through the candidates of a run, and keep or drop them by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gendataagent.cli.console import write
from gendataagent.cli.shared import app


@app.command()
def review(
    run_folder: Annotated[Path, typer.Argument(help="run folder, finished or not")],
    port: Annotated[
        int, typer.Option(min=0, max=65_535, help="of this machine; 0 = a free one")
    ] = 0,
    browser: Annotated[
        bool, typer.Option("--browser/--no-browser", help="open the page in the browser")
    ] = True,
) -> None:
    """Open a local page to look through the new images, and keep or drop them by hand.

    For example: gendataagent review runs/first

    Only this machine can open it, by the address that is printed. A run honours the decisions from
    its next epoch on, every export always.
    """
    from gendataagent.report.review import review as serve

    serve(run_folder, port=port, browser=browser, say=write)
