"""`gendataagent evaluate`: what a finished run's classifier does, here and on other pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from gendataagent.cli.shared import app, print_result
from gendataagent.console import ConsoleProgress


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
        print_result(result)
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
