"""`gendataagent verify`: is every file of a run what it was when it was written?"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table
from rich.text import Text

from gendataagent.cli.console import ConsoleProgress, say, show
from gendataagent.cli.shared import app
from gendataagent.core.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gendataagent.runs.verify import Verified

SHOWN = 5  # damaged files of each part


@app.command()
def verify(
    run_folder: Annotated[Path, typer.Argument(help="run folder, finished or not, or adaptation")],
    images: Annotated[
        bool, typer.Option("--images", help="also compare the real images with those of the start")
    ] = False,
    data: Annotated[
        str | None, typer.Option(help="with --images: where they are now, if they have moved")
    ] = None,
) -> None:
    """Check every file of a run against the SHA-256 recorded when it was written; changes nothing.

    Ends with 1 if a file is missing or has changed.
    """
    if data is not None and not images:
        raise ConfigError("--data is where --images reads them; add --images")
    from gendataagent.runs.verify import verify as check

    found = check(run_folder, images=images, data=data, progress=ConsoleProgress())
    show(_table(found))
    damaged = [damage for part in found for damage in part.damaged]
    total = sum(part.files for part in found)
    if damaged:
        say(f"{len(damaged)} of {total} files are missing or have changed")
        raise typer.Exit(1)
    say(f"all {total} files are what was written")


def _table(found: Sequence[Verified]) -> Table:
    table = Table(box=None, pad_edge=False)
    for column in ("part", "files", "", "what"):
        table.add_column(column, justify="right" if column == "files" else "left", overflow="fold")
    for part in found:
        mark = Text("ok", style="green") if part.whole else Text("damaged", style="red")
        what = [str(damage) for damage in part.damaged[:SHOWN]]
        if len(part.damaged) > SHOWN:
            what.append(f"and {len(part.damaged) - SHOWN} more")
        table.add_row(part.part, str(part.files), mark, "\n".join([*what, part.note]).strip())
    return table
