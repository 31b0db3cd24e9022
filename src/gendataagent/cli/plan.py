"""`gendataagent presets` and `plan`: settings by name, and the estimated cost of a run."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from gendataagent.agent.selection.words import selected_noun
from gendataagent.cli.console import say, show, write
from gendataagent.cli.shared import (
    BaselineOption,
    ConfigOption,
    DataOption,
    EpochsOption,
    GeneratorOption,
    PresetOption,
    RoundsOption,
    SeedOption,
    SetOption,
    StrategyOption,
    app,
    settings_from,
    shortcuts,
)
from gendataagent.config.presets import Preset, list_presets, preset_text
from gendataagent.config.strategies import STRATEGIES
from gendataagent.config.strategy import Strategy

if TYPE_CHECKING:
    from gendataagent.config import RunConfig
    from gendataagent.runs.planning import Plan


@app.command()
def presets(
    name: Annotated[str | None, typer.Argument(help="preset to print, with its comments")] = None,
) -> None:
    """List presets and strategies, or print a preset as a file for --config."""
    if name is not None:
        write(preset_text(name).rstrip("\n"))
        return
    _print_named("--preset: settings by name", list_presets())
    _print_named("--strategy: ways to train, applied on top of a preset", STRATEGIES.values())


def _print_named(title: str, items: Iterable[Preset | Strategy]) -> None:
    table = Table(box=None, pad_edge=False, show_header=False, title=title, title_justify="left")
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for item in items:
        table.add_row(item.name, item.about)
    show(table)


@app.command()
def plan(
    data: DataOption = None,
    images: Annotated[
        int | None, typer.Option(min=4, help="training images to assume, without data")
    ] = None,
    gpu: Annotated[
        str | None, typer.Option(help='GPU to plan for, such as "RTX 4090"; default: this machine')
    ] = None,
    devices: Annotated[
        int, typer.Option(min=1, max=100_000, help="how many of that device there are")
    ] = 1,
    utilisation: Annotated[
        float | None,
        typer.Option(min=0.01, max=1, help="assumed share of the device's peak rate"),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print as JSON")] = False,
    generator: GeneratorOption = None,
    rounds: RoundsOption = None,
    epochs: EpochsOption = None,
    seed: SeedOption = None,
    baseline: BaselineOption = False,
    preset: PresetOption = None,
    strategy: StrategyOption = None,
    config: ConfigOption = None,
    set_: SetOption = None,
) -> None:
    """Estimate downloads, work, hours, memory and disk of a run, without models or network.

    gendataagent plan --data photos/ --strategy gendataagent-guided

    gendataagent plan --images 5000 --gpu "RTX 4090"
    """
    from gendataagent.runs.planning import make_plan

    given = shortcuts(
        data=data, generator=generator, rounds=rounds, epochs=epochs, seed=seed, baseline=baseline
    )
    settings = settings_from(config, given, set_ or [], preset, strategy)
    made = make_plan(
        settings,
        gpu=gpu,
        devices=devices,
        images=images,
        utilisation=utilisation,
        folder=Path("runs"),
    )
    if as_json:
        write(json.dumps(made.to_json(), indent=2))
        return
    _print(made)


def print_plan(settings: RunConfig) -> None:
    """Print the plan of a run on this machine, and that nothing was started.

    Raises:
        ConfigError, DataError: what `run` would refuse before it spends anything.
    """
    from gendataagent.runs.planning import make_plan

    _print(make_plan(settings, folder=Path("runs")))
    say("nothing was written or started; leave out --dry-run to start")


def _print(plan: Plan) -> None:
    for table in (_models(plan), _stages(plan), _sums(plan)):
        show(table)
    for note in plan.notes:
        say(f"! {note}", style="yellow")
    say("An estimate, assuming:", style="dim")
    for assumption in plan.assumptions:
        say(f"- {assumption}", style="dim")


def _models(plan: Plan) -> Table:
    table = Table(box=None, pad_edge=False, title="models", title_justify="left")
    for column in ("setting", "model", "where", "to download"):
        table.add_column(column, overflow="fold")
    for model in plan.models:
        where = f"{model.where}, gated" if model.gated else model.where
        download = "" if model.download_bytes == 0 else _gb(model.download_bytes)
        table.add_row(model.setting, model.name, where, download)
    return table


def _stages(plan: Plan) -> Table:
    many = f"{plan.devices} x " if plan.devices > 1 else ""
    title = f"work on {many}{plan.device.name}"
    table = Table(box=None, pad_edge=False, title=title, title_justify="left")
    for column in ("stage", "amount", "PFLOP", "time", "memory", "note"):
        table.add_column(column, overflow="fold")
    for stage in plan.stages:
        memory = "" if stage.memory_bytes == 0 else _gib(stage.memory_bytes)
        table.add_row(
            stage.name, stage.amount, _pflop(stage.flops), time_words(stage.seconds), memory,
            stage.note,
        )  # fmt: skip
    table.add_row("total", "", _pflop(plan.flops), time_words(plan.seconds), "", "")
    return table


def _sums(plan: Plan) -> Table:
    counts, real = plan.counts, plan.real
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_row(
        "real images",
        f"{real.train:,} train, {real.validation:,} validation, {real.test:,} test: {real.source}",
    )
    if counts.rounds:
        noun = selected_noun(plan.config.selection.by)
        filtered = (
            f"; about {counts.kept_per_round:,} kept once the filter is active "
            f"({counts.filtered_rounds} rounds)"
        )
        table.add_row(
            "rounds",
            f"{counts.rounds}, each {counts.images_per_round:,} images from "
            f"{counts.selected_per_round:,} {noun}{filtered if counts.filtered_rounds else ''}",
        )
    if counts.feedback_rounds:
        table.add_row(
            "feedback",
            f"in {counts.feedback_rounds} of the rounds; up to {counts.feedback_images:,} images "
            "more to find and compare its scale",
        )
    table.add_row(
        "disk",
        f"images {_gb(plan.disk.images)}, checkpoints {_gb(plan.disk.checkpoints)}, downloads "
        f"{_gb(plan.disk.downloads)}",
    )
    return table


def _gb(amount: float | None) -> str:
    return "not known" if amount is None else f"{amount / 1e9:.1f} GB"


def _gib(amount: float | None) -> str:
    return "not known" if amount is None else f"{amount / 2**30:.1f} GiB"


def _pflop(amount: float | None) -> str:
    return "not known" if amount is None else f"{amount / 1e15:,.3g}"


def time_words(seconds: float | None) -> str:
    """Return a time as a plan says it: "45 s", "12 min", "3.5 h"; "not known" for None."""
    if seconds is None:
        return "not known"
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    hours = seconds / 3600
    return f"{hours:.1f} h" if hours < 100 else f"{hours / 24:.0f} days"
