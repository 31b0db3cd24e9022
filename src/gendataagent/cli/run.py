"""`gendataagent run`: start or resume a run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gendataagent.cli.console import ConsoleProgress, say
from gendataagent.cli.failures import explain
from gendataagent.cli.plan import print_plan
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
    TrustOption,
    app,
    print_result,
    settings_from,
    shortcuts,
    warn_of_damage,
)
from gendataagent.config import AUTO, RunConfig
from gendataagent.core.devices import resolve_device
from gendataagent.core.errors import (
    ConfigError,
    GenerationError,
    MemoryShortError,
    StorageError,
    TrainingProcessError,
)

if TYPE_CHECKING:
    from gendataagent.runs.results import RunResult

_RESUMABLE = (
    KeyboardInterrupt, StorageError, MemoryShortError, GenerationError, TrainingProcessError,
)  # fmt: skip


@app.command()
def run(
    data: DataOption = None,
    out: Annotated[
        Path | None, typer.Option(help="new folder for the run; default runs/NNN")
    ] = None,
    resume: Annotated[Path | None, typer.Option(help="resume the run in this folder")] = None,
    generator: GeneratorOption = None,
    rounds: RoundsOption = None,
    epochs: EpochsOption = None,
    seed: SeedOption = None,
    baseline: BaselineOption = False,
    preset: PresetOption = None,
    strategy: StrategyOption = None,
    config: ConfigOption = None,
    set_: SetOption = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="check everything and print the plan; write nothing")
    ] = False,
    trust_remote_code: TrustOption = False,
) -> None:
    """Train a classifier on your images with the agent, or resume a run.

    gendataagent run --data photos/ --out runs/first --baseline

    gendataagent run --preset quick --data photos/ --out runs/first

    gendataagent run --data photos/ --dry-run

    gendataagent run --resume runs/first
    """
    given = shortcuts(
        data=data, generator=generator, rounds=rounds, epochs=epochs, seed=seed, baseline=baseline
    )
    if trust_remote_code:
        given["trust_remote_code"] = True
    if dry_run:
        if resume is not None or out is not None:
            raise ConfigError("--dry-run writes nothing; leave out --resume and --out")
        settings = settings_from(config, given, set_ or [], preset, strategy)
        if settings.device != AUTO:  # unlike a plan, which may be for another machine
            resolve_device(settings.device)
        print_plan(settings)
        return
    progress = ConsoleProgress()
    if resume is not None:
        if any(option is not None for option in (out, config, preset, strategy)):
            raise ConfigError(
                "--resume takes its settings from the run folder; leave out --out, --config, "
                "--preset and --strategy"
            )
        result = _resume(resume, given, set_ or [], progress)
    else:
        settings = settings_from(config, given, set_ or [], preset, strategy)
        result = _start(settings, out or new_run_folder(), progress)
    print_result(result)
    _report(result.path)


def _report(folder: Path) -> None:
    """Write the page of a finished run; a failure costs the page, not the run."""
    from gendataagent.report import write_report

    try:
        say(f"report: {write_report(folder, on_problem=warn_of_damage)}")
    except Exception as error:
        say(
            f"the run is finished, but its report could not be written: {explain(error)}. Try "
            f"again with: gendataagent report {folder} --out FILE",
            to_error=True,
        )


def new_run_folder(runs: Path = Path("runs")) -> Path:
    """Make and return runs/001, or the next free number; no two processes get the same.

    Raises:
        StorageError: it cannot be made.
    """
    number = 1
    while True:
        folder = runs / f"{number:03d}"
        try:
            folder.mkdir(parents=True)
            return folder
        except FileExistsError:
            number += 1
        except OSError as error:
            raise StorageError(
                f"cannot create the run folder {folder}: {error.strerror or error}; name a folder "
                "that you can write to with --out"
            ) from error


def _start(settings: RunConfig, out: Path, progress: ConsoleProgress) -> RunResult:
    from gendataagent.runs.run import run as start

    try:
        return start(settings, out, progress=progress)
    except _RESUMABLE:
        _say_how_to_resume(out)
        raise


def _resume(
    folder: Path, given: dict[str, Any], overrides: list[str], progress: ConsoleProgress
) -> RunResult:
    from gendataagent.core.run_folder import RunFolder
    from gendataagent.runs.run import resume

    file = RunFolder.open(folder).config_file
    settings = settings_from(file, given, overrides, of_run=True) if given or overrides else None
    try:
        named = [override.partition("=")[0].strip() for override in overrides]
        return resume(folder, config=settings, progress=progress, named=named)
    except _RESUMABLE:
        _say_how_to_resume(folder)
        raise


def _say_how_to_resume(folder: Path) -> None:
    """Print the command that resumes a run, if there is something to resume."""
    if (folder / "config.toml").is_file():
        say(f"stopped; resume with: gendataagent run --resume {folder}", to_error=True)
