"""Shared by all commands: the app, common options, settings, the table of a result."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from gendataagent.cli.console import say, show
from gendataagent.config import RunConfig
from gendataagent.config.fitting import FITTED, with_fitting_rounds
from gendataagent.config.presets import preset_settings
from gendataagent.config.settings import (
    apply_overrides,
    merged,
    read_settings,
    read_settings_of_run,
)
from gendataagent.config.strategies import check_rewriter, find_strategy
from gendataagent.config.training import TrainingConfig
from gendataagent.core.text import as_name
from gendataagent.runs.preflight import problems

if TYPE_CHECKING:
    from gendataagent.runs.results import RunResult

app = typer.Typer(
    help="Trains an image classifier and, while it trains, generates the images it lacks.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)

DataOption = Annotated[
    str | None,
    typer.Option(help="folder of images, CSV, parquet, archive or hub:NAME (data.path)"),
]
GeneratorOption = Annotated[
    str | None,
    typer.Option(help="image-to-image pipeline of diffusers: hub id, folder, or tiny-sd"),
]
RoundsOption = Annotated[int | None, typer.Option(help="on-the-fly iterations")]
EpochsOption = Annotated[
    int | None, typer.Option(help="epochs of training; with fewer, as many rounds as fit")
]
BaselineOption = Annotated[
    bool, typer.Option("--baseline", help="also train the same classifier without the agent")
]
SeedOption = Annotated[int | None, typer.Option(help="seed of everything random")]
ConfigOption = Annotated[Path | None, typer.Option("--config", help="TOML file with settings")]
PresetOption = Annotated[
    str | None,
    typer.Option("--preset", help="named settings; list them with: gendataagent presets"),
]
StrategyOption = Annotated[
    str | None,
    typer.Option(help="compared system by name, or a .toml file; overrides the preset"),
]
TrustOption = Annotated[
    bool,
    typer.Option(
        "--trust-remote-code", help="run Python code that comes with a model; read it first"
    ),
]
SetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="SECTION.KEY=VALUE", help="override one setting; may be repeated"
    ),
]


def shortcuts(
    *,
    data: str | None,
    generator: str | None,
    rounds: int | None,
    epochs: int | None,
    seed: int | None,
    baseline: bool,
) -> dict[str, Any]:
    """Return the settings that the given options of `run` and `plan` stand for."""
    values = {
        "data.path": data,
        "generation.generator": generator,
        "agent.rounds": rounds,
        "training.epochs": epochs,
        "seed": seed,
        "agent.baseline": baseline or None,
    }
    return {key: value for key, value in values.items() if value is not None}


def settings_from(
    config: Path | None,
    given: dict[str, Any],
    overrides: list[str],
    preset: str | None = None,
    strategy: str | None = None,
    *,
    of_run: bool = False,
) -> RunConfig:
    """Return the settings of preset, strategy, file, --set and options; later ones win.

    Args:
        of_run: whether a run or an adaptation has written the file.

    Raises:
        ConfigError: lists every problem.
    """
    tree: dict[str, Any] = preset_settings(preset) if preset is not None else {}
    way = find_strategy(strategy) if strategy is not None else None
    tree = merged(tree, way.settings) if way is not None else tree
    read = read_settings_of_run if of_run else read_settings
    tree = merged(tree, read(config)) if config is not None else tree
    meant_for = _epochs(tree)
    tree = apply_overrides(tree, overrides)
    for key, value in given.items():
        *section, name = key.split(".")
        place = tree.setdefault(section[0], {}) if section else tree
        if isinstance(place, dict):
            place[name] = value
    named = {*given, *(override.partition("=")[0].strip() for override in overrides)}
    if "training.epochs" in named and not of_run and not named & {*FITTED}:
        tree, said = with_fitting_rounds(tree, meant_for)
        if said:
            say(said, to_error=True)
    result = RunConfig.from_dict(tree, problems)
    if way is not None:
        check_rewriter(result, way)
    return result


def _epochs(tree: dict[str, Any]) -> object:
    """Return `training.epochs` of settings that have not been checked yet."""
    section = tree.get("training", {})
    default = TrainingConfig().epochs
    return section.get("epochs", default) if isinstance(section, dict) else default


def warn_of_damage(problem: str) -> None:
    """Say on standard error that a file of a run is damaged."""
    say(f"damaged: {problem}", to_error=True)


def print_result(result: RunResult) -> None:
    """Print the results of a finished run next to its baseline, and the verdict."""
    from gendataagent.runs.verdict import KEPT_BASELINE, judge

    called = "with the agent" if result.rounds else "real images only"
    runs = {result.guard.called if result.guard else called: result}
    if result.baseline is not None:
        runs = {"real images only": result.baseline, **runs}
    table = Table(box=None, pad_edge=False, title="on the test split", title_justify="left")
    table.add_column("")
    for name in runs:
        table.add_column(name, justify="right", overflow="fold")
    for name, cell in _RESULT_ROWS.items():
        table.add_row(name, *(cell(finished) for finished in runs.values()))
    show(table)
    verdict = judge(result)
    if result.guard is not None and verdict.outcome != KEPT_BASELINE:
        say(result.guard.sentence)
    say(f"Verdict: {verdict.sentence}")


_RESULT_ROWS: dict[str, Callable[[RunResult], str]] = {
    "top-1": lambda r: f"{r.evaluations['test'].top1:.1%}",
    "worst class": lambda r: (
        f"{r.evaluations['test'].worst_class_accuracy:.1%} "
        f"{as_name(r.evaluations['test'].worst_class)}{r.evaluations['test'].others_as_bad}"
    ),
    "worst-case disparity": lambda r: f"{r.evaluations['test'].worst_case_disparity:.2f}",
    "images made / kept": lambda r: f"{r.images_made} / {r.images_kept}",
    "optimiser steps": lambda r: str(r.optimizer_steps),
    "time": lambda r: f"{r.total_seconds:.0f} s",
}
