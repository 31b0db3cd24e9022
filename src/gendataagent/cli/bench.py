"""`gendataagent bench`: how fast this machine generates, against one image a call."""

from __future__ import annotations

import json
import statistics
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from gendataagent.cli.console import ConsoleProgress, say, show, write
from gendataagent.cli.shared import (
    ConfigOption,
    DataOption,
    GeneratorOption,
    PresetOption,
    SetOption,
    TrustOption,
    app,
    settings_from,
)

if TYPE_CHECKING:
    from gendataagent.runs.speed import Speed


@app.command()
def bench(
    images: Annotated[int, typer.Option(min=1, help="images of each repetition")] = 64,
    loop_images: Annotated[
        int, typer.Option(min=1, help="images of each repetition of the loop")
    ] = 16,
    repeat: Annotated[int, typer.Option(min=1, help="repetitions")] = 3,
    as_json: Annotated[bool, typer.Option("--json", help="print as JSON")] = False,
    data: DataOption = None,
    generator: GeneratorOption = None,
    preset: PresetOption = None,
    config: ConfigOption = None,
    set_: SetOption = None,
    trust_remote_code: TrustOption = False,
) -> None:
    """Measure generation with these settings against a loop of one image a call."""
    from gendataagent.runs.speed import measure_speed

    shortcuts: dict[str, Any] = {
        "data.path": data,
        "generation.generator": generator,
        "trust_remote_code": trust_remote_code or None,
    }
    given = {key: value for key, value in shortcuts.items() if value is not None}
    settings = settings_from(config, given, set_ or [], preset)
    speed = measure_speed(
        settings,
        images=images,
        loop_images=loop_images,
        repetitions=repeat,
        progress=ConsoleProgress(),
    )
    if as_json:
        write(json.dumps({**asdict(speed), "ratios": speed.ratios}, indent=2))
        return
    _print(speed)


def _print(speed: Speed) -> None:
    table = Table(
        box=None,
        pad_edge=False,
        title=f"{speed.model}, {speed.size_px} px, on {speed.device}, {speed.threads} threads",
        title_justify="left",
    )
    for heading in ("", "images/s", "lowest - highest"):
        table.add_column(heading, justify="left" if not heading else "right")
    path = f"batches of {speed.batch_size}, {speed.dtype}"
    for name, rates in ((path, speed.path_per_s), (f"loop, {speed.loop_dtype}", speed.loop_per_s)):
        spread = f"{min(rates):.2f} - {max(rates):.2f}"
        table.add_row(name, f"{statistics.median(rates):.2f}", spread)
    kinds = {"times the loop": speed.ratios, "by processor time": speed.processor_ratios}
    for name, ratios in kinds.items():
        if ratios:
            spread = f"{min(ratios):.1f} - {max(ratios):.1f}"
            table.add_row(name, f"{statistics.median(ratios):.1f}", spread)
    show(table)
    shares = ", ".join(f"{name} {share:.0%}" for name, share in speed.stage_share.items())
    say(f"time by stage: {shares}; peak memory {speed.peak_memory_mib:.0f} MiB")
