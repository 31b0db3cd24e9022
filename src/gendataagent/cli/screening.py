"""`gendataagent experiment my-photos`: which strategy pays on one's own images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from rich.table import Table

from gendataagent.cli.console import ConsoleProgress, say, show
from gendataagent.cli.plan import time_words
from gendataagent.core.errors import ConfigError
from gendataagent.core.text import counted

if TYPE_CHECKING:
    from gendataagent.config import RunConfig
    from gendataagent.experiments.screening import Screening


def screen_images(
    config: RunConfig,
    arms: Sequence[str],
    out: Path | None,
    *,
    seeds: str | None,
    hours: float,
    jobs: int,
    dry_run: bool,
) -> None:
    """Screen strategies on the images of `config`, or list what would be run.

    Raises:
        ConfigError: no images are named, an unknown strategy, or nothing to judge by.
        GenerationError: runs failed.
    """
    from gendataagent.data import load_data
    from gendataagent.experiments.benchmarks import parse_seeds
    from gendataagent.experiments.experiment import warn_of_unknown_classes
    from gendataagent.experiments.screening import (
        FIRST_SEED,
        estimated_seconds,
        screen,
        screening_benchmark,
    )
    from gendataagent.experiments.writing import write_results

    if not config.data.path:
        raise ConfigError("name your images with --data FOLDER")
    benchmark = screening_benchmark(config, arms)
    if seeds is not None:
        benchmark = replace(benchmark, seeds=parse_seeds(seeds))
    if max(benchmark.seeds) >= FIRST_SEED:
        raise ConfigError(
            f"--seeds must be below {FIRST_SEED}, got {max(benchmark.seeds)}: seeds from "
            f"{FIRST_SEED} on choose the strategy, and the last comparison must not share them"
        )
    folder = out or Path("runs") / benchmark.folder_name
    splits = load_data(config.data, seed=config.seed)
    say(f"{benchmark.title}: {', '.join(arm.name for arm in benchmark.arms)}")
    progress = ConsoleProgress()
    warn_of_unknown_classes(config, splits.class_names, progress)
    if dry_run:
        _say_rungs(len(benchmark.arms) - 1, len(benchmark.seeds))
        images = splits.train.images_per_class()
        _say_hours(estimated_seconds(benchmark, images, jobs=jobs), hours)
        return
    try:
        outcome = screen(
            benchmark, folder, images_per_class=splits.train.images_per_class(),
            hours=hours, jobs=jobs, progress=progress,
        )  # fmt: skip
    except KeyboardInterrupt:
        say(f"interrupted; to resume, run the same command with --out {folder}", to_error=True)
        raise
    if outcome.rows:
        write_results(outcome.rows, folder, benchmark=benchmark, findings=outcome.facts)
    _show(outcome, folder)


def _say_rungs(arms: int, seeds: int) -> None:
    """Print how many runs a screening takes at most."""
    from gendataagent.experiments.screening import rungs_of

    for left, further in rungs_of(arms):
        say(f"{left} strategies and real images alone, on {counted(further, 'seed', 'seeds')} more")
    say(f"the best one and real images alone, on {seeds} fresh seeds")


def _say_hours(seconds: tuple[float, float] | None, hours: float) -> None:
    """Print how long that may take, and whether the hours given are enough."""
    if seconds is None:
        say("how long it takes is not known: gendataagent plan says which model's size is missing")
        return
    least, most = map(time_words, seconds)
    spread = least if least == most else f"{least} to {most}, by which strategies go on"
    say(
        f"estimated for this machine as by gendataagent plan, from no measurement of it: {spread}; "
        "less where runs share images"
    )
    if hours and seconds[0] > hours * 3600:
        say(
            f"--hours {hours:g} is less: no run starts that would end later, so the last "
            "comparison may have fewer seeds, or none"
        )


def _show(outcome: Screening, folder: Path) -> None:
    for number, rung in enumerate(outcome.rungs, start=1):
        title = f"choice {number}, on validation: points above real images alone"
        table = Table(box=None, pad_edge=False, title=title, title_justify="left")
        table.add_column("")
        table.add_column("gain", justify="right")
        table.add_column("seeds", justify="right")
        table.add_column("")
        for standing in rung:
            verdict = "goes on" if standing.goes_on else ""
            table.add_row(standing.arm, f"{100 * standing.gain:+.1f}", str(standing.seeds), verdict)
        show(table)
    say(f"{outcome.sentence}.")
    if outcome.file is not None:
        say(f"to run it: gendataagent run --config {outcome.file} --out runs/recommended")
    if outcome.rows:
        say(f"results: {folder / 'results.html'}, also as results.md")
