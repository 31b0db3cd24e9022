"""Runs the tasks of an experiment, each in a process of its own, and goes on where it stopped.

    OUT/runs/ARM-seedN-HASH/    one run folder a task
    OUT/shared/images/          images that several tasks ask for
    OUT/shared/captions/        captions
    OUT/shared/warm-up/KEY/     training on real images alone, up to the first round
    OUT/shared/adapted/KEY/     LoRA weights

A task that is done is not made again; one that was stopped goes on inside. What tasks share is made
by the first that needs it, under a lock, and used by the others.
"""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import shutil
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from pathlib import Path

from gendataagent.agent.schedule import Schedule
from gendataagent.config import RunConfig
from gendataagent.config.run_config_file import create_run_folder, read_run_config
from gendataagent.core.errors import GenDataAgentError, GenerationError, RunFolderError
from gendataagent.core.locks import hold_file
from gendataagent.core.records import ModelDescription
from gendataagent.core.run_folder import RunFolder
from gendataagent.experiments.benchmarks import Task
from gendataagent.experiments.measures import EXTRAS_FILE, measure_extras
from gendataagent.generation.executors import end_with_parent


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskOutcome:
    """What became of a task: `failure` is empty, or why it could not be finished."""

    task: Task
    seconds: float
    failure: str = ""


def folder_of(task: Task, out: Path) -> Path:
    """Return the run folder of a task."""
    return out / "runs" / task.name


def is_done(task: Task, out: Path) -> bool:
    """Return whether a task was finished before, all its measures taken."""
    folder = folder_of(task, out)
    return (folder / "DONE").exists() and (folder / EXTRAS_FILE).exists()


def check_generators(tasks: Sequence[Task], out: Path) -> None:
    """Raise if a run in `out` was made with another generator than its settings stand for now.

    A task's name tells its settings, not the weights behind them: those of a bundled model change
    with the package, those in a folder with whoever writes there.

    Raises:
        RunFolderError: naming the run, its generator and the present one.
        ModelError: LoRA weights that a run used are gone.
    """
    known: dict[tuple[object, ...], ModelDescription] = {}
    for task in tasks:
        folder = RunFolder(folder_of(task, out))
        manifest = folder.read_optional_json(folder.manifest_file, {})
        if not manifest.get("generator"):
            continue
        then = ModelDescription(**manifest["generator"])
        config = read_run_config(folder)
        generation = config.generation
        key = (generation.generator, generation.revision, generation.lora, generation.lora_scale)
        if key not in known:
            known[key] = _generator_of(config)
        now = known[key]
        # A model that had yet to be downloaded was written down without its revision.
        if then.revision and now.revision and then != now:
            raise RunFolderError(
                f"the run in {folder.path} was made with the generator {then.name}, revision "
                f"{then.revision}; its settings stand for {now.name}, revision {now.revision}, "
                "now. Runs of the two cannot be compared: name a new folder with --out, or put "
                "the earlier weights back"
            )


def _generator_of(config: RunConfig) -> ModelDescription:
    """Return which generator the settings stand for now; loads nothing."""
    from gendataagent.generation.backends import build_backends

    # Of the other parts nothing is asked, and some look at models when they are built.
    plain = replace(config.prompting, captioner="none", rewriter="none")
    return build_backends(replace(config, prompting=plain)).generator.describe()


def run_tasks(
    tasks: Sequence[Task],
    out: Path,
    *,
    jobs: int,
    on_done: Callable[[TaskOutcome], None],
) -> list[TaskOutcome]:
    """Run every task that is not done, `jobs` at a time with one thread each; return the outcomes.

    A task that fails is reported and does not stop the others; started again, it is tried again.

    Args:
        on_done: called with each outcome as it comes.

    Raises:
        GenerationError: a worker died; what was running goes on where it was when started again.
    """
    todo = [task for task in tasks if not is_done(task, out)]
    outcomes: list[TaskOutcome] = []
    # Torch reads it when it is imported, in the workers.
    os.environ["OMP_NUM_THREADS"] = "1"
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(jobs, context, initializer=end_with_parent)
    running: dict[Future[TaskOutcome], Task] = {}
    try:
        while todo or running:
            while todo and len(running) < jobs:
                task = todo.pop(_place_of_next(todo, list(running.values())))
                running[pool.submit(run_task, task, out)] = task
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                del running[future]
                outcomes.append(future.result())
                on_done(outcomes[-1])
    except BaseException as error:
        for process in list((pool._processes or {}).values()):
            process.terminate()  # a run that is cut off goes on where it was
        if isinstance(error, BrokenProcessPool):
            raise GenerationError(
                "a process that did a run died, most often for lack of memory; start the "
                "experiment again with the same --out, with fewer --jobs if it happens again: "
                "every run goes on where it was"
            ) from error
        raise
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
    return outcomes


def _place_of_next(todo: Sequence[Task], running: Sequence[Task]) -> int:
    """Return the place of the task to begin: the first of a seed that as few as can be run of.

    Tasks of one seed ask for the same warm-up and often for the same images. Side by side, each
    would make them for itself or wait; one after the other, the second finds them made.
    """
    of_seed = Counter(task.seed for task in running)
    return min(range(len(todo)), key=lambda place: (of_seed[todo[place].seed], place))


def run_task(task: Task, out: Path) -> TaskOutcome:
    """Run one task to its end, or on from where it stopped."""
    from gendataagent.runs.run import resume, run

    started = time.monotonic()
    folder = folder_of(task, out)
    try:
        config = _with_shared(task.config, out)
        if not (folder / "config.toml").is_file():
            _begin_warm(config, folder, out)
        if (folder / "config.toml").is_file():
            resume(folder)
        else:
            run(config, folder)
        measure_extras(folder)
    except GenDataAgentError as error:
        return TaskOutcome(task=task, seconds=time.monotonic() - started, failure=str(error))
    return TaskOutcome(task=task, seconds=time.monotonic() - started)


def _with_shared(config: RunConfig, out: Path) -> RunConfig:
    """Return the settings with the shared folders named, and the generator adapted where wanted."""
    shared = out / "shared"
    config = replace(
        config,
        threads=1,
        generation=replace(config.generation, image_cache=str(shared / "images")),
        prompting=replace(config.prompting, caption_cache=str(shared / "captions")),
    )
    if not (config.agent.enabled and config.adaptation.enabled):
        return config
    lora = _adapted(config, shared)
    return replace(
        config,
        adaptation=replace(config.adaptation, enabled=False),
        generation=replace(config.generation, lora=str(lora)),
    )


def _adapted(config: RunConfig, shared: Path) -> Path:
    """Return the folder of the LoRA for these settings, made now if nobody has."""
    from gendataagent.data import load_data
    from gendataagent.generation.adaptation import adapt

    parts = (config.seed, config.data, config.adaptation, config.prompting.captioner,
             config.generation.generator, config.generation.revision)  # fmt: skip
    folder = shared / "adapted" / _key(*parts)
    with hold_file(folder.with_suffix(".lock")):
        splits = load_data(config.data, seed=config.seed)
        adapt(config, splits.train, folder, reference=splits.validation)
    return folder


def _begin_warm(config: RunConfig, folder: Path, out: Path) -> None:
    """Let a run begin as a copy of the training that all runs share before their first round."""
    from gendataagent.runs.run import run_until

    rounds = Schedule.from_config(config).round_epochs
    if not rounds or rounds[0] < 1:
        return
    key = _key(
        config.seed, config.data, config.classifier, config.training, config.device,
        config.filter.snapshot_at, rounds[0],
    )  # fmt: skip
    warm = out / "shared" / "warm-up" / key
    with hold_file(warm.with_suffix(".lock")):
        if not (warm / "WHOLE").exists():
            run_until(config, warm, rounds[0])
            (warm / "WHOLE").touch()
    aside = folder.with_name(f".{folder.name}.{os.getpid()}")
    shutil.rmtree(aside, ignore_errors=True)  # of a process that was killed and had this number
    create_run_folder(aside, config)
    for name in ("checkpoints", "snapshots"):
        if (warm / name).exists():
            shutil.copytree(warm / name, aside / name)
    for name in ("metrics.jsonl", "timing.json"):
        shutil.copy2(warm / name, aside / name)
    aside.rename(folder)


def _key(*parts: object) -> str:
    text = json.dumps([repr(part) for part in parts])
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()
