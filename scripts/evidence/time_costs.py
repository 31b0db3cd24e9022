"""Wall-clock cost of an arm on its own, fitted to the finished runs of an experiment.

Runs of an experiment share images, captions and the training before the first round, and the speed
of a machine varies, so the time of one run says little. The cost of an arm is the sum of

    training         its median seconds per optimiser step, over all seeds and the epochs its runs
                     trained themselves (those before the first round are copies); of a guarded run,
                     its baseline's added
    images           the median over all images of the same kind, whichever arm made them. An image
                     used by several runs counts with the slowest time: the others read it from disk
    captions         likewise; captions that are not shared: the median over rounds
    rewriting, selection, filter, probes, adaptation of the generator
                     its median over seeds, of a complete run

Loading data and evaluation are left out; they belong to the experiment, not to an arm.
"""

from __future__ import annotations

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
from gendataagent.core.journal import read_journal
from gendataagent.core.record_table import RecordTable
from gendataagent.core.records import Candidate, RoundRecord
from gendataagent.core.rows import read_record
from gendataagent.core.run_folder import RunFolder
from gendataagent.core.steps import executed_steps
from gendataagent.generation.backends import CAPTIONERS

ADAPTATION_FILE = "adaptation.json"
ADAPTATION_STAGES = ("caption", "train")  # without sample images and evaluation


@dataclass(frozen=True, slots=True, kw_only=True)
class ArmCost:
    """Cost of one run of an arm.

    Args:
        step_seconds, image_seconds, caption_seconds: per optimiser step, image, caption.
        images, captions: made in a run.
        rewrite_seconds, select_seconds, filter_seconds, probe_seconds, adapt_seconds: per run.
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
        """Seconds of everything but optimiser steps; independent of the training's length."""
        whole = (self.rewrite_seconds, self.select_seconds, self.filter_seconds,
                 self.probe_seconds, self.adapt_seconds)  # fmt: skip
        made = self.images * self.image_seconds + self.captions * self.caption_seconds
        return made + sum(whole)

    def seconds(self, steps: float) -> float:
        """Return the cost of a run with so many optimiser steps."""
        return self.beside_training + steps * self.step_seconds

    def to_json(self) -> dict[str, Any]:
        """Return the fields as plain JSON values."""
        return asdict(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class Timed:
    """Timings recorded in the folder of a run.

    Args:
        steps: seconds per optimiser step of each epoch the run trained itself.
        baseline_steps: the same of the training without the agent that a guarded run does first.
        batches: keys of the images of each batch, and seconds per image.
        captions: source images captioned first in each round, and seconds per caption.
        rounds: finished ones.
        adapt_seconds: of the generator's adaptation, if any.
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
    """Return the timings in a run folder; of an unfinished run, those recorded so far."""
    run = RunFolder.open(folder)
    config = read_run_config(run)
    rounds = [
        read_record(RoundRecord, path) for path in sorted((folder / "rounds").glob("*/record.json"))
    ]
    copied = next(iter(Schedule.from_config(config).round_epochs), 0)
    batches: list[tuple[tuple[str, ...], float]] = []
    captions: list[tuple[tuple[str, ...], float]] = []
    captioned: set[str] = set()
    for path in sorted((folder / "rounds").glob("*/rendered.jsonl")):
        batches += _batches(path)
    for record in rounds:
        judged = RecordTable.read(Candidate, run.round(record.round) / "judged.parquet")
        sources = dict.fromkeys(judged.column("source_id"))
        new = tuple(source for source in sources if source not in captioned)
        captioned.update(new)
        if new and "caption" in record.seconds:
            captions.append((new, record.seconds["caption"] / len(new)))
    return Timed(
        config=config,
        steps=_steps(run, after=copied),
        baseline_steps=_steps(RunFolder(run.baseline)) if config.agent.is_guarded else (),
        batches=tuple(batches),
        captions=tuple(captions),
        rounds=tuple(rounds),
        adapt_seconds=_adapt_seconds(config),
    )


def _steps(run: RunFolder, after: int = 0) -> tuple[float, ...]:
    """Return the seconds per optimiser step of each epoch after the given one."""
    rows = files.read_jsonl(run.metrics_file) if run.metrics_file.exists() else []
    return tuple(row["seconds"] / row["optimizer_steps"] for row in rows if row["epoch"] > after)


def _batches(path: Path) -> Iterator[tuple[tuple[str, ...], float]]:
    """Yield the keys of the images of each rendered batch, and seconds per image."""
    key_of = {
        c.id: repr([
            c.source_id, c.seed, c.prompt, c.negative_prompt, c.strength, c.guidance_scale,
            c.num_inference_steps, c.generator_revision,
        ])
        for c in RecordTable.read(Candidate, path.with_name("candidates.parquet"))
    }  # fmt: skip
    for batch in read_journal(path):
        keys = tuple(key_of[id_] for id_ in batch["made"])
        yield keys, batch["seconds"] / len(keys)


def _adapt_seconds(config: RunConfig) -> float:
    record = Path(config.generation.lora) / ADAPTATION_FILE
    if not config.generation.lora or not record.is_file():
        return 0.0
    seconds: dict[str, float] = files.read_json(record)["seconds"]
    return sum(seconds.get(stage, 0.0) for stage in ADAPTATION_STAGES)


def image_kind(config: RunConfig) -> str:
    """Return the kind of image for its cost: generator, steps, guidance, size, switches, feedback.

    An adaptive run renders at several strengths, so its images are a kind of their own.
    """
    generation = config.generation
    steps = executed_steps(generation.steps, generation.strength)
    guided = "guided" if generation.guidance > 1 else "not guided"
    size = f", {generation.size_px} px" if generation.size_px else ""
    tried = ", adaptive" if config.adaptive.enabled else ""
    merged = f", {generation.merge_tokens:g} merged" if generation.merge_tokens else ""
    decoded = "" if generation.decoder == "vae" else f", {Path(generation.decoder).name}"
    steered = "" if generation.feedback == "none" else f", {generation.feedback} feedback"
    kind = f"{Path(generation.generator).name}, {steps} steps, {guided}{size}"
    return f"{kind}{merged}{decoded}{steered}{tried}"


def image_prices(runs: Iterable[Timed]) -> dict[str, float]:
    """Return `image_kind` -> median seconds per image, over all images made."""
    slowest: dict[str, dict[str, float]] = defaultdict(dict)
    for run in runs:
        of_kind = slowest[image_kind(run.config)]
        for keys, seconds in run.batches:
            of_kind.update((key, max(seconds, of_kind.get(key, 0.0))) for key in keys)
    return {kind: median(made.values()) for kind, made in slowest.items() if made}


def caption_prices(runs: Iterable[Timed]) -> dict[str, float]:
    """Return captioner -> median seconds per caption."""
    slowest: dict[str, dict[str, float]] = defaultdict(dict)
    for number, run in enumerate(runs):
        captioner = run.config.prompting.captioner
        shared = captioner not in CAPTIONERS  # only models use the shared cache
        of_kind = slowest[captioner]
        for sources, seconds in run.captions:
            for source in sources:
                key = source if shared else f"{number} {source}"
                of_kind[key] = max(seconds, of_kind.get(key, 0.0))
    return {captioner: median(made.values()) for captioner, made in slowest.items() if made}


def arm_cost(
    runs: Sequence[Timed], *, images: Mapping[str, float], captions: Mapping[str, float]
) -> ArmCost:
    """Return the cost of a run of an arm.

    Args:
        runs: the arm's finished runs, one per seed.
        images, captions: of `image_prices` and `caption_prices`.
    """
    config = runs[0].config
    made = round(median(sum(record.made for record in run.rounds) for run in runs))
    captioned = round(median(sum(len(new) for new, _ in run.captions) for run in runs))
    baseline = [seconds for run in runs for seconds in run.baseline_steps]
    return ArmCost(
        step_seconds=median(seconds for run in runs for seconds in run.steps)
        + (median(baseline) if baseline else 0.0),
        images=made,
        image_seconds=images[image_kind(config)] if made else 0.0,
        captions=captioned,
        caption_seconds=captions[config.prompting.captioner] if captioned else 0.0,
        rewrite_seconds=median(run.stage_seconds("rewrite") for run in runs),
        select_seconds=median(run.stage_seconds("select") for run in runs),
        filter_seconds=median(run.stage_seconds("filter") for run in runs),
        probe_seconds=median(run.stage_seconds("probe") for run in runs),
        adapt_seconds=median(run.adapt_seconds for run in runs),
    )
