"""The command line: one file for each group of commands.

Heavy libraries are imported inside the commands that need them, so that --help stays quick.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from gendataagent import __version__
from gendataagent.cli import (
    adapt,
    audit,
    bench,
    evaluate,
    experiment,
    export,
    inspect,
    plan,
    predict,
    review,
    rows,
    run,
    verify,
)
from gendataagent.cli.console import say, write
from gendataagent.cli.failures import explain
from gendataagent.cli.shared import app
from gendataagent.cli.streams import steady_streams
from gendataagent.core.errors import ConfigError, StorageError
from gendataagent.core.launch import fewer_than_asked, take_over_launch
from gendataagent.core.processes import signals_as_interrupts

__all__ = [
    "adapt",
    "app",
    "audit",
    "bench",
    "evaluate",
    "experiment",
    "export",
    "inspect",
    "main",
    "plan",
    "predict",
    "review",
    "rows",
    "run",
    "verify",
]

# --help lists the commands in this order
_ORDER = (
    "run", "predict", "export", "export-data", "report", "review", "evaluate", "plan", "presets",
    "config", "doctor", "verify", "rows", "adapt", "audit", "experiment", "compare", "bench",
)  # fmt: skip
app.registered_commands.sort(
    key=lambda command: _ORDER.index(command.name or getattr(command.callback, "__name__", ""))
)

STOPPED_BY_USER = 130  # what shells report for Ctrl-C


@app.callback(invoke_without_command=True)
def _version(
    version: Annotated[bool, typer.Option("--version", help="print the version")] = False,
) -> None:
    if version:
        write(__version__)
        raise typer.Exit


def with_home(arguments: Sequence[str]) -> list[str]:
    """Return arguments with `~` resolved in --out=~/runs, which shells leave to the program."""
    found = []
    for argument in arguments:
        option, equals, value = argument.partition("=")
        if argument.startswith("~/"):
            argument = os.path.expanduser(argument)
        elif equals and option.startswith("--") and value.startswith("~/"):
            argument = f"{option}={os.path.expanduser(value)}"
        found.append(argument)
    return found


def _check_current_folder() -> None:
    """Raise `StorageError` if the current folder was removed: torch's libraries would abort."""
    try:
        os.getcwd()
    except OSError as error:
        raise StorageError(
            f"the current folder does not exist any more ({error.strerror}); go to another one "
            "with cd, then run the command again"
        ) from error


def main() -> None:
    """Run the command line; no error is printed as a traceback."""
    # Retry messages of the hub's library would hide the final error.
    os.environ.setdefault("HF_HUB_VERBOSITY", "error")
    with steady_streams(), signals_as_interrupts() as received:
        try:
            _check_current_folder()
            if not take_over_launch():
                return
            if sentence := fewer_than_asked():
                say(sentence, to_error=True)
            app(args=with_home(sys.argv[1:]))
        except (KeyboardInterrupt, SystemExit) as end:
            if received:
                sys.exit(128 + received[0])
            if isinstance(end, KeyboardInterrupt):
                sys.exit(STOPPED_BY_USER)
            raise
        except Exception as error:
            say(f"error: {explain(error)}", to_error=True, style="red")
            sys.exit(2 if isinstance(error, ConfigError) else 1)
