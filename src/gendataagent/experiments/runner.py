"""Runs the tasks of an experiment in worker processes, and resumes an interrupted one.

    OUT/runs/ARM-seedN-HASH/    one run folder per task
    OUT/shared/images/          images that several tasks need
    OUT/shared/captions/        captions
    OUT/shared/warm-up/KEY/     training on real images alone, up to the first round
    OUT/shared/adapted/KEY/     LoRA weights, words of classes

A finished task is not run again, an interrupted one resumes. Shared files are made by the first
task that needs them, under a lock, and read by the others.
"""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import multiprocessing.queues
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
from gendataagent.config.paths import with_paths_of
from gendataagent.config.run_config_file import create_run_folder, read_run_config
from gendataagent.core import files
from gendataagent.core.devices import gpus_of, resolve_device
from gendataagent.core.errors import GenDataAgentError, GenerationError, RunFolderError
from gendataagent.core.locks import hold_file
from gendataagent.core.processes import end_workers, interrupts_blocked, start_worker
from gendataagent.core.records import ModelDescription, RunManifest
from gendataagent.core.rows import read_record
from gendataagent.core.run_folder import RunFolder
from gendataagent.experiments.benchmarks import Task
from gendataagent.experiments.measures import EXTRAS_FILE, measure_extras


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskOutcome:
    """Outcome of a task; `failure` is empty or the reason why it could not be finished."""

    task: Task
    seconds: float
    failure: str = ""


def folder_of(task: Task, out: Path) -> Path:
    """Return the run folder of a task."""
    return out / "runs" / task.name


def is_done(task: Task, out: Path) -> bool:
    """Return whether a task is finished, with all its measures."""
    folder = folder_of(task, out)
    return (folder / "DONE").exists() and (folder / EXTRAS_FILE).exists()


def check_generators(tasks: Sequence[Task], out: Path) -> None:
    """Raise if a run in `out` was made with other generator weights than its settings name now.

    A task's name is a hash of its settings, not of the weights: those of a bundled model change
    with the package, those in a folder with whoever writes there.

    Raises:
        RunFolderError: naming the run, its generator and the current one.
        ModelError: LoRA weights of a run are missing.
    """
    known: dict[tuple[object, ...], ModelDescription] = {}
    for task in tasks:
        folder = RunFolder(folder_of(task, out))
        if not folder.manifest_file.exists():
            continue
        then = read_record(RunManifest, folder.manifest_file).generator
        if then is None:
            continue
        config = read_run_config(folder)
        generation = config.generation
        key = (
            generation.generator, generation.revision, generation.lora, generation.lora_scale,
            generation.few_step_lora, generation.class_tokens, generation.class_loras,
        )  # fmt: skip
        if key not in known:
            known[key] = _generator_of(config)
        now = known[key]
        # A model that was not downloaded yet is recorded without its revision.
        if then.revision and now.revision and then != now:
            raise RunFolderError(
                f"the run in {folder.path} was made with the generator {then.name}, revision "
                f"{then.revision}; its settings now name {now.name}, revision {now.revision}. Runs "
                "of the two cannot be compared: use a new folder with --out, or restore the "
                "earlier weights"
            )


def _generator_of(config: RunConfig) -> ModelDescription:
    """Return the generator that the settings name now; loads no weights."""
    from gendataagent.generation.backends import build_backends

    # The other backends are not needed, and some look for models when they are built.
    plain = replace(config.prompting, captioner="none", rewriter="none")
    return build_backends(replace(config, prompting=plain)).generator.describe()


def run_tasks(
    tasks: Sequence[Task],
    out: Path,
    *,
    jobs: int,
    on_done: Callable[[TaskOutcome], None],
    too_late: Callable[[Task], bool] | None = None,
) -> list[TaskOutcome]:
    """Run every unfinished task, `jobs` in parallel with one thread each; return the outcomes.

    A failed task is reported and does not stop the others; the next call retries it. With several
    GPUs, each process has one to itself, or shares it with as few others as possible.

    Args:
        jobs: 0 = one a GPU, or a core without any.
        on_done: called with each outcome as it arrives.
        too_late: asked before each run; once it says yes, no further run is started.

    Raises:
        GenerationError: a worker died; the next call resumes the runs that were active.
    """
    todo = [task for task in tasks if not is_done(task, out)]
    outcomes: list[TaskOutcome] = []
    # Read by torch when a worker imports it.
    os.environ["OMP_NUM_THREADS"] = "1"
    context = multiprocessing.get_context("spawn")
    device = resolve_device(todo[0].config.device) if todo else "cpu"
    jobs = jobs or default_jobs(device)
    turns = context.SimpleQueue()
    gpus = gpus_of(device)
    for number in range(jobs if len(gpus) > 1 else 0):
        turns.put(gpus[number % len(gpus)])
    pool = ProcessPoolExecutor(
        jobs, context, initializer=_start_worker, initargs=(turns if len(gpus) > 1 else None,)
    )
    running: dict[Future[TaskOutcome], Task] = {}
    try:
        while todo or running:
            while todo and len(running) < jobs:
                task = todo.pop(_next_index(todo, list(running.values())))
                if too_late is not None and too_late(task):
                    todo.clear()
                    break
                with interrupts_blocked():  # a task may start a worker
                    running[pool.submit(run_task, task, out)] = task
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                del running[future]
                outcomes.append(future.result())
                on_done(outcomes[-1])
    except BaseException as error:
        end_workers(pool)  # an interrupted run can be resumed
        if isinstance(error, BrokenProcessPool):
            raise GenerationError(
                "a worker process died, most often for lack of memory; run the same command "
                "again to resume, with fewer --jobs if it happens again"
            ) from error
        raise
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
    return outcomes


def default_jobs(device: str) -> int:
    """Return how many runs go side by side: one a GPU, or one a core of a machine without any."""
    return len(gpus_of(device)) or 1 if device != "cpu" else os.cpu_count() or 1


def _start_worker(gpus: multiprocessing.queues.SimpleQueue[str] | None) -> None:
    """Set up a worker process, on the next GPU of the queue where there are several."""
    start_worker()
    if gpus is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = gpus.get()  # before torch looks for GPUs


def _next_index(todo: Sequence[Task], running: Sequence[Task]) -> int:
    """Return the index of the task to start: the first of the seed with the fewest running tasks.

    Tasks of one seed share the warm-up and often images. In parallel, each would make them itself
    or wait; one after the other, the second finds them on disk.
    """
    of_seed = Counter(task.seed for task in running)
    return min(range(len(todo)), key=lambda place: (of_seed[todo[place].seed], place))


def run_task(task: Task, out: Path) -> TaskOutcome:
    """Run one task to its end, or resume it."""
    from gendataagent.runs.destinations import remember
    from gendataagent.runs.run import resume, run

    started = time.monotonic()
    folder = folder_of(task, out)
    try:
        config = _with_shared(task, out)
        if not (folder / "config.toml").is_file():
            _start_warm(config, folder, out)
        if (folder / "config.toml").is_file():
            trusted = config.trust_remote_code
            was = read_run_config(RunFolder(folder), trust_remote_code=trusted)
            remember(config)
            moved = with_paths_of(was, config)
            resume(folder, config=moved, trust_remote_code=trusted, named=())
        else:
            run(config, folder)
        measure_extras(folder, trust_remote_code=config.trust_remote_code)
    except GenDataAgentError as error:
        return TaskOutcome(task=task, seconds=time.monotonic() - started, failure=str(error))
    return TaskOutcome(task=task, seconds=time.monotonic() - started)


def _with_shared(task: Task, out: Path) -> RunConfig:
    """Return the settings with the shared folders, and the shared adaptation if one is needed."""
    shared, config = out / "shared", task.config
    images = str(shared / "images") if task.shares_images else config.generation.image_cache
    config = replace(
        config,
        generation=replace(config.generation, image_cache=images),
        prompting=replace(config.prompting, caption_cache=str(shared / "captions")),
    )
    if not (config.agent.enabled and config.adaptation.enabled):
        return config
    return config.with_adaptation(str(_adapted(config, shared)))


def _adapted(config: RunConfig, shared: Path) -> Path:
    """Return the folder of the adaptation of these settings, trained now if it is missing."""
    from gendataagent.data import load_data
    from gendataagent.generation.adaptation import adapt

    parts = (config.seed, config.data, config.adaptation, config.prompting.captioner,
             config.generation.generator, config.generation.revision)  # fmt: skip
    folder = shared / "adapted" / _key(*parts)
    with hold_file(folder.with_suffix(".lock")):
        splits = load_data(config.data, seed=config.seed)
        adapt(config, splits.train, folder, reference=splits.validation)
    return folder


def _start_warm(config: RunConfig, folder: Path, out: Path) -> None:
    """Start a run as a copy of the training on real images before the first round."""
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
        if not (warm / "COMPLETE").exists():
            run_until(config, warm, rounds[0])
            files.write_bytes(warm / "COMPLETE", b"")
    with files.atomic_folder(folder) as aside:
        create_run_folder(aside, config)
        for name in ("checkpoints", "snapshots", "data"):
            if (warm / name).exists():
                shutil.copytree(warm / name, aside / name)
        for name in ("metrics.jsonl", "timing.json", files.SEALS_FILE):
            shutil.copy2(warm / name, aside / name)


def _key(*parts: object) -> str:
    text = json.dumps([repr(part) for part in parts])
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()
