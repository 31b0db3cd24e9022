"""`gendataagent adapt`: fit the generator to the training images."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from gendataagent.cli.console import ConsoleProgress, say, show
from gendataagent.cli.shared import (
    ConfigOption,
    DataOption,
    GeneratorOption,
    PresetOption,
    SeedOption,
    SetOption,
    StrategyOption,
    TrustOption,
    app,
    settings_from,
)
from gendataagent.config import RunConfig
from gendataagent.core.errors import ConfigError, RunFolderError
from gendataagent.core.text import counted

if TYPE_CHECKING:
    from gendataagent.core.progress import Progress
    from gendataagent.generation.adaptation import Adaptation, Distances

_SHOWN = 3  # files


@app.command()
def adapt(
    data: DataOption = None,
    out: Annotated[Path | None, typer.Option(help="new folder for what is trained")] = None,
    resume: Annotated[
        Path | None, typer.Option(help="resume the adaptation in this folder")
    ] = None,
    generator: GeneratorOption = None,
    epochs: Annotated[int | None, typer.Option(help="passes over the training images")] = None,
    seed: SeedOption = None,
    preset: PresetOption = None,
    strategy: StrategyOption = None,
    config: ConfigOption = None,
    set_: SetOption = None,
    trust_remote_code: TrustOption = False,
) -> None:
    """Adapt the generator to your training images, or resume an adaptation.

    adaptation.kind says by what: a LoRA, a word of its own for each class, or both.
    """
    shortcuts: dict[str, Any] = {
        "data.path": data,
        "generation.generator": generator,
        "adaptation.epochs": epochs,
        "seed": seed,
        "trust_remote_code": trust_remote_code or None,
    }
    given = {key: value for key, value in shortcuts.items() if value is not None}
    if resume is not None:
        if any(given is not None for given in (out, config, preset, strategy)):
            raise ConfigError(
                "--resume reads its settings from the folder; leave out --out, --config, --preset "
                "and --strategy"
            )
        out, config = resume, _config_of(resume)
    elif out is None:
        raise ConfigError(
            "--out must name the folder for what is trained (or use --resume to continue)"
        )
    settings = settings_from(config, given, set_ or [], preset, strategy, of_run=resume is not None)
    if epochs is not None and not settings.adaptation.trains_lora:
        raise ConfigError(
            "--epochs counts for a LoRA; with adaptation.kind = tokens set the steps on each class "
            "by --set adaptation.token_steps=N"
        )
    try:
        adaptation = _adapt(settings, out, ConsoleProgress())
    except KeyboardInterrupt:
        say(f"stopped; resume with: gendataagent adapt --resume {out}", to_error=True)
        raise
    _print(adaptation, settings.adaptation.makes)


def _config_of(folder: Path) -> Path:
    from gendataagent.generation.adaptation import CONFIG_FILE

    path = folder / CONFIG_FILE
    if not path.is_file():
        raise RunFolderError(
            f"{folder} holds no adaptation to resume (it has no {CONFIG_FILE}); start one "
            f"with: gendataagent adapt --data DIR --out {folder}"
        )
    return path


def _adapt(settings: RunConfig, out: Path, progress: Progress) -> Adaptation:
    from gendataagent.core.progress import counting
    from gendataagent.data import load_data
    from gendataagent.generation.adaptation import adapt as adapt_generator

    with progress.stage("read images", None, "images") as stage:
        splits = load_data(settings.data, seed=settings.seed, progress=counting(stage))
    return adapt_generator(
        settings, splits.train, out, reference=splits.validation, progress=progress
    )


def _print(adaptation: Adaptation, makes: Sequence[str]) -> None:
    if adaptation.distances is not None:
        show(_distance_table(adaptation.distances))
    minutes = sum(adaptation.seconds.values()) / 60
    say(
        f"{adaptation.generator.name} adapted to {adaptation.images} images: {adaptation.steps} "
        f"steps, {minutes:.1f} min, peak memory {adaptation.peak_memory_mib:.0f} MiB"
    )
    for path in adaptation.paths[:_SHOWN]:
        say(f"written: {path}")
    if (more := len(adaptation.paths) - _SHOWN) > 0:
        say(f"and {counted(more, 'file', 'files')} more")
    named = " ".join(f"--set generation.{name}={adaptation.folder}" for name in makes)
    say(f"generate with it: gendataagent run {named} ...")


def _distance_table(distances: Distances) -> Table:
    """Return a table of the distances to the real images."""
    from gendataagent.generation.adaptation import distance_rows

    held_out = "held-out" if distances.floor is not None else "training"
    table = Table(
        box=None,
        pad_edge=False,
        title=f"squared MMD between {distances.images} images generated from text and "
        f"{distances.reference_images} {held_out} images (lower is nearer)",
        title_justify="left",
    )
    for heading in ("", "MMD^2 x 1000", "standard error"):
        table.add_column(heading, justify="right" if heading else "left")
    for name, distance in distance_rows(distances):
        value, error = 1000 * distance.mmd2, 1000 * distance.standard_error
        table.add_row(name, f"{value:.2f}", f"{error:.2f}")
    return table
