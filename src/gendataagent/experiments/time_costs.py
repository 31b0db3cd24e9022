"""What an arm costs in wall-clock seconds as if it stood alone, fitted to finished runs.

Runs of an experiment share images, captions and the training before the first round, and a machine
is not always equally fast, so the clock of one run says little. A cost is put together from prices:

    training         the arm's median seconds an optimiser step, over all seeds and all epochs that
                     its runs trained themselves (those before the first round are copies); of a
                     guarded run, its baseline's with them
    images           the median over all images made alike, whichever arm made them. What several
                     runs asked for costs what it cost the slowest: the others found it on disk
    captions         likewise; where captions are not shared, the median over rounds
    rewriting, selecting, filtering, probing, adapting the generator
                     the arm's median over seeds of a whole run's

Reading the data and measuring accuracy are left out; they belong to the experiment, not to an arm.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

from gendataagent.agent.schedule import Schedule
from gendataagent.config import RunConfig
from gendataagent.config.run_config_file import read_run_config
from gendataagent.core import files
from gendataagent.core.records import RoundRecord
from gendataagent.core.run_folder import RunFolder
from gendataagent.generation.backends import CAPTIONERS

ADAPTATION_FILE = "adaptation.json"
ADAPTATION_STAGES = ("caption", "train")  # not its sample images nor how near it came


@dataclass(frozen=True, slots=True, kw_only=True)
class ArmCost:
    """What one run of an arm costs.

    Args:
        step_seconds: an optimiser step; image_seconds, caption_seconds: one image, one caption.
        images, captions: made in a run.
        rewrite_seconds, select_seconds, filter_seconds, probe_seconds, adapt_seconds: a whole
            run's.
    """

    step_seconds: float
    images: int
    image_seconds: float
    captions: int
    caption_seconds: float
    rewrite_seconds: float
    select_seconds: float
    filter_seconds: float
    probe_seconds: float
    adapt_seconds: float

    @property
    def beside_training(self) -> float:
        """Seconds of everything but optimiser steps; the same however long it trains."""
        whole = (self.rewrite_seconds, self.select_seconds, self.filter_seconds,
                 self.probe_seconds, self.adapt_seconds)  # fmt: skip
        made = self.images * self.image_seconds + self.captions * self.caption_seconds
        return made + sum(whole)

    def seconds(self, steps: float) -> float:
        """Return what a run with so many optimiser steps costs."""
        return self.beside_training + steps * self.step_seconds

    def to_json(self) -> dict[str, Any]:
        """Return the fields as plain JSON values."""
        return asdict(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class Timed:
    """What the folder of a run tells of its costs.

    Args:
        steps: seconds an optimiser step of each epoch the run trained itself.
        baseline_steps: the same of the training without the agent that a guarded run does first.
        batches: what was asked for in each batch of images, and seconds an image.
        captions: what was captioned for the first time in each round, and seconds a caption.
        rounds: those that are done.
        adapt_seconds: of the generator's adaptation, if it was adapted.
    """

    config: RunConfig
    steps: tuple[float, ...]
    baseline_steps: tuple[float, ...]
    batches: tuple[tuple[tuple[str, ...], float], ...]
    captions: tuple[tuple[tuple[str, ...], float], ...]
    rounds: tuple[RoundRecord, ...]
    adapt_seconds: float

    def stage_seconds(self, name: str) -> float:
        """Return the seconds of a stage in all rounds."""
        return sum(record.seconds.get(name, 0.0) for record in self.rounds)


def read_timed(folder: Path) -> Timed:
    """Return what a run folder tells of its costs; of an unfinished run, what is there."""
    run = RunFolder.open(folder)
    config = read_run_config(run)
    rounds = [
        RoundRecord.from_json(files.read_json(path))
        for path in sorted((folder / "rounds").glob("*/record.json"))
    ]
    copied = next(iter(Schedule.from_config(config).round_epochs), 0)
    batches: list[tuple[tuple[str, ...], float]] = []
    captions: list[tuple[tuple[str, ...], float]] = []
    captioned: set[str] = set()
    for path in sorted((folder / "rounds").glob("*/rendered.jsonl")):
        batches += _batches(path)
    for record in rounds:
        rows = files.read_jsonl(run.round(record.round) / "judged.jsonl")
        sources = dict.fromkeys(row["source_id"] for row in rows)
        new = tuple(source for source in sources if source not in captioned)
        captioned.update(new)
        if new and "caption" in record.seconds:
            captions.append((new, record.seconds["caption"] / len(new)))
    return Timed(
        config=config,
        steps=_steps(run, after=copied),
        baseline_steps=_steps(RunFolder(run.baseline)) if config.agent.guard else (),
        batches=tuple(batches),
        captions=tuple(captions),
        rounds=tuple(rounds),
        adapt_seconds=_adapt_seconds(config),
    )


def _steps(run: RunFolder, after: int = 0) -> tuple[float, ...]:
    """Return the seconds an optimiser step of each epoch after the given one."""
    rows = files.read_jsonl(run.metrics_file) if run.metrics_file.exists() else []
    return tuple(row["seconds"] / row["optimizer_steps"] for row in rows if row["epoch"] > after)


def _batches(path: Path) -> Iterator[tuple[tuple[str, ...], float]]:
    """Yield the images of each rendered batch, by what they depend on, and seconds an image."""
    for batch in files.read_journal(path):
        keys = tuple(
            repr([row[name] for name in (
                "source_id", "seed", "prompt", "negative_prompt", "strength", "guidance_scale",
                "num_inference_steps", "generator_revision",
            )])
            for row in batch["candidates"]
        )  # fmt: skip
        yield keys, batch["seconds"] / len(keys)


def _adapt_seconds(config: RunConfig) -> float:
    record = Path(config.generation.lora) / ADAPTATION_FILE
    if not config.generation.lora or not record.is_file():
        return 0.0
    seconds: dict[str, float] = files.read_json(record)["seconds"]
    return sum(seconds.get(stage, 0.0) for stage in ADAPTATION_STAGES)


def images_alike(config: RunConfig) -> str:
    """Return what tells images that cost the same from others: generator, steps, guidance, size.

    An adaptive run makes them at several strengths; its images have a price of their own.
    """
    generation = config.generation
    steps = math.floor(generation.num_inference_steps * generation.strength)
    guided = "guided" if generation.guidance_scale > 1 else "not guided"
    size = f", {generation.size_px} px" if generation.size_px else ""
    tried = ", adaptive" if config.adaptive.enabled else ""
    return f"{Path(generation.generator).name}, {steps} steps, {guided}{size}{tried}"


def image_prices(runs: Iterable[Timed]) -> dict[str, float]:
    """Return `images_alike` -> median seconds of an image, over all images that were made."""
    slowest: dict[str, dict[str, float]] = defaultdict(dict)
    for run in runs:
        of_kind = slowest[images_alike(run.config)]
        for keys, seconds in run.batches:
            of_kind.update((key, max(seconds, of_kind.get(key, 0.0))) for key in keys)
    return {kind: median(made.values()) for kind, made in slowest.items() if made}


def caption_prices(runs: Iterable[Timed]) -> dict[str, float]:
    """Return captioner -> median seconds of a caption."""
    slowest: dict[str, dict[str, float]] = defaultdict(dict)
    for number, run in enumerate(runs):
        captioner = run.config.prompting.captioner
        shared = captioner not in CAPTIONERS  # models have a cache, the bundled ones need none
        of_kind = slowest[captioner]
        for sources, seconds in run.captions:
            for source in sources:
                key = source if shared else f"{number} {source}"
                of_kind[key] = max(seconds, of_kind.get(key, 0.0))
    return {captioner: median(made.values()) for captioner, made in slowest.items() if made}


def arm_cost(
    runs: Sequence[Timed], *, images: Mapping[str, float], captions: Mapping[str, float]
) -> ArmCost:
    """Return what a run of an arm costs.

    Args:
        runs: the arm's finished runs, one a seed.
        images, captions: prices, of `image_prices` and `caption_prices`.
    """
    config = runs[0].config
    made = round(median(sum(record.made for record in run.rounds) for run in runs))
    captioned = round(median(sum(len(new) for new, _ in run.captions) for run in runs))
    baseline = [seconds for run in runs for seconds in run.baseline_steps]
    return ArmCost(
        step_seconds=median(seconds for run in runs for seconds in run.steps)
        + (median(baseline) if baseline else 0.0),
        images=made,
        image_seconds=images[images_alike(config)] if made else 0.0,
        captions=captioned,
        caption_seconds=captions[config.prompting.captioner] if captioned else 0.0,
        rewrite_seconds=median(run.stage_seconds("rewrite") for run in runs),
        select_seconds=median(run.stage_seconds("select") for run in runs),
        filter_seconds=median(run.stage_seconds("filter") for run in runs),
        probe_seconds=median(run.stage_seconds("probe") for run in runs),
        adapt_seconds=median(run.adapt_seconds for run in runs),
    )
