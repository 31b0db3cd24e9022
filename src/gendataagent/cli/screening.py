"""`gendataagent experiment my-photos`: which strategy pays on one's own images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from rich.table import Table

from gendataagent.cli.console import ConsoleProgress, say, show
from gendataagent.core.errors import ConfigError

if TYPE_CHECKING:
    from gendataagent.config import RunConfig
    from gendataagent.experiments.screening import Screening

SCREENING = "my-photos"


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
    from gendataagent.experiments.screening import FIRST_SEED, screen, screening_benchmark
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
        _say_rungs([arm.name for arm in benchmark.arms[1:]], len(benchmark.seeds))
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


def _say_rungs(arms: Sequence[str], seeds: int) -> None:
    """Print how many runs a screening takes at most."""
    left, have = len(arms), 0
    while left > 1:
        now = max(1, 2 * have)
        say(f"{left} strategies and real images alone, on {now - have} further seeds")
        left, have = (left + 1) // 2, now
    say(f"the best one and real images alone, on {seeds} fresh seeds")


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
