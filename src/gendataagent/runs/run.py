"""A complete run: from data to a trained classifier, a pool of images and their records.

`run` starts one; `resume` continues one that was stopped, however it was stopped.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gendataagent.agent.agent import Agent
from gendataagent.agent.decisions import with_threads
from gendataagent.agent.steps import planned_steps, without_agent
from gendataagent.agent.synthetic import SyntheticImages
from gendataagent.config import AUTO, RunConfig
from gendataagent.config.decided import as_decided
from gendataagent.config.paths import with_absolute_paths, with_paths_of
from gendataagent.config.run_config_file import (
    check_same_settings,
    create_run_folder,
    read_run_config,
    write_run_config,
)
from gendataagent.core import files
from gendataagent.core.checkpoints import save_checkpoint
from gendataagent.core.completeness import collect_unchecked
from gendataagent.core.devices import cpu_threads, repeatable_kernels, resolve_device
from gendataagent.core.errors import GenDataAgentError, RunFolderError, StorageError
from gendataagent.core.launch import check_started_once
from gendataagent.core.progress import Progress, SilentProgress
from gendataagent.core.records import EpochMetrics, RoundRecord
from gendataagent.core.rows import read_record
from gendataagent.core.run_folder import RunFolder
from gendataagent.data import check_path
from gendataagent.data.pixels import Pixels
from gendataagent.generation.backends import Backends, with_backends_chosen
from gendataagent.runs.baseline_guard import BASELINE
from gendataagent.runs.destinations import check_destinations, destinations, remember
from gendataagent.runs.identity import move_finished
from gendataagent.runs.mistakes import write_mistakes
from gendataagent.runs.planning.counts import count_listed
from gendataagent.runs.planning.outlook import outlook
from gendataagent.runs.preflight import check_models, check_tracker
from gendataagent.runs.results import RunResult, read_result
from gendataagent.runs.second_opinion import write_second_opinion
from gendataagent.runs.session import Session, prepare
from gendataagent.runs.time_left import TimeLeft
from gendataagent.runs.tracking import Tracking, tracking
from gendataagent.training.coverage import coverage_by_class
from gendataagent.training.evaluation import evaluate
from gendataagent.training.saving import save_classifier

if TYPE_CHECKING:
    from torch import Tensor


def run(
    config: RunConfig,
    out: str | Path,
    *,
    backends: Backends | None = None,
    progress: Progress | None = None,
) -> RunResult:
    """Train a classifier with the agent as `config` says; everything is written to `out`.

    Args:
        out: a folder that does not exist yet, or an empty one.
        backends: your own models instead of those that the settings name.

    Raises:
        GenDataAgentError: its message says what to do. Finished work is kept; `resume(out)`
            continues from there.
    """
    check_started_once()
    config = with_threads(config)
    remember(config)
    folder = create_run_folder(out, config)
    try:
        own = read_run_config(folder, trust_remote_code=config.trust_remote_code)
        return _run(folder, own, backends, progress or SilentProgress())
    except StorageError:
        raise  # all is kept for --resume, as its message says
    except GenDataAgentError:
        folder.discard_if_unstarted()
        raise


def resume(
    out: str | Path,
    *,
    config: RunConfig | None = None,
    backends: Backends | None = None,
    progress: Progress | None = None,
    trust_remote_code: bool = False,
    named: Collection[str] | None = None,
) -> RunResult:
    """Resume the run in `out` after its last complete step; a finished run is only read.

    Args:
        config: new settings; they may differ only in what does not affect results (device,
            workers, ...), and in paths at which the same content is. What was left to decide
            (auto, threads = 0) stays as decided.
        trust_remote_code: whether Python code that comes with its models may be run; what the
            run's folder says of that is ignored.
        named: settings whose addresses on other machines this call vouches for, though no run of
            this user was started with them; None = all of them, if `config` is given.

    Raises:
        ConfigError: captions, images or a key would be sent to an address that only the run's
            folder names.
        RunFolderError: `out` is not a run folder, or `config` would change the results.
    """
    check_started_once()
    folder = RunFolder.open(out)
    progress = progress or SilentProgress()
    trusted = trust_remote_code or (config is not None and config.trust_remote_code)
    own = read_run_config(folder, trust_remote_code=trusted)
    if named is not None or config is not None:
        remember(config or own, named)
    if not folder.is_done:
        check_destinations(folder, config or own)
    if config is None:
        return _run(folder, own, backends, progress)
    config = as_decided(with_absolute_paths(config), own)
    config = replace(config, trust_remote_code=trusted)
    check_same_settings(folder, config)
    before, now = own.training.processes, config.training.processes
    if before != now and not folder.is_done:
        progress.say(
            f"training.processes was {before}, is {now}: from here on, results are the same as "
            "before up to rounding, not to the bit"
        )
    moved = config != with_paths_of(config, own)
    if not moved or not folder.manifest_file.exists():
        write_run_config(folder, config)
    elif folder.is_done:
        move_finished(folder, config, progress)
    return _run(folder, config, backends, progress)


def run_until(
    config: RunConfig, out: str | Path, epoch: int, *, progress: Progress | None = None
) -> None:
    """Train `epoch` epochs and stop before a round that is due then; `resume` continues.

    Runs with the same training up to that epoch can start from copies of one folder.

    Raises:
        GenDataAgentError: as `run`.
    """
    folder = RunFolder(Path(out))
    config = with_threads(config)
    if not folder.config_file.exists():
        create_run_folder(out, config)
    own = read_run_config(folder, trust_remote_code=config.trust_remote_code)
    with folder.lock(), cpu_threads(own.threads), repeatable_kernels():
        _train(prepare(folder, own, None, progress or SilentProgress()), epoch)


def _run(
    folder: RunFolder,
    config: RunConfig,
    backends: Backends | None,
    progress: Progress,
    *,
    parent: RunFolder | None = None,
) -> RunResult:
    with folder.lock(), cpu_threads(config.threads), repeatable_kernels():
        if not folder.is_done:
            check_path(config.data)
            check_tracker(config)
            for place in destinations(config):
                if parent is None:
                    progress.say(place.sentence)
            with progress.stage("check models"), collect_unchecked() as unchecked:
                checked = check_models(config, backends)
            for sentence in unchecked:
                if parent is None:  # else it has been said
                    progress.say(sentence)
            if parent is None and not folder.manifest_file.exists():
                config = _look_ahead(folder, config, backends, progress)
        if config.agent.trains_baseline:
            _run_baseline(folder, config, progress)
        if not folder.is_done:
            own = backends is not None
            session = prepare(folder, config, checked, progress, own_backends=own)
            _train_and_evaluate(session, more_follows=parent is not None)
    return read_result(folder.path)


def _look_ahead(
    folder: RunFolder, config: RunConfig, backends: Backends | None, progress: Progress
) -> RunConfig:
    """Say what is known before anything is spent; return the settings with the guard decided."""
    generator = None
    if config.agent.enabled and backends:
        generator = backends.generator.describe().name
    elif config.agent.enabled:
        chosen = with_backends_chosen(config, resolve_device(config.device))
        generator = chosen.generation.generator
    ahead = outlook(config, count_listed(config), generator)
    for sentence in ahead.sentences:
        progress.say(sentence)
    if ahead.config != config:
        write_run_config(folder, ahead.config)
    return ahead.config


def _run_baseline(folder: RunFolder, config: RunConfig, progress: Progress) -> None:
    """Run the same training without the agent, in a run folder inside this one."""
    without = without_agent(config)
    if RunFolder(folder.baseline).config_file.exists():
        inner = RunFolder.open(folder.baseline)
    else:
        inner = create_run_folder(folder.baseline, without)
    if not inner.is_done:
        progress.say("training the baseline first: the same training without the agent")
    settings = read_run_config(inner, trust_remote_code=config.trust_remote_code)
    if config.training.processes != AUTO:  # a resume may have changed it
        training = replace(settings.training, processes=config.training.processes)
        settings = replace(settings, training=training)
    _run(inner, with_paths_of(settings, without), None, progress, parent=folder)


def _train_and_evaluate(session: Session, *, more_follows: bool) -> None:
    """Train to the last epoch, asking the agent for images on the way; then evaluate once.

    Args:
        more_follows: whether this is the first of two trainings.
    """
    epochs, class_names = session.config.training.epochs, session.splits.train.class_names
    with tracking(session.config, session.folder, class_names, session.progress) as follower:
        _train(session, epochs, follower, more_follows=more_follows)
        follower.result(_evaluate(session), epochs)
    session.folder.mark_done()


def _train(
    session: Session,
    epochs: int,
    follower: Tracking | None = None,
    *,
    more_follows: bool = False,
) -> None:
    trainer, agent = session.trainer, session.agent
    steps = planned_steps(session.config, session.splits.train.images_per_class())
    left = TimeLeft(
        steps[:epochs],
        agent.schedule.round_epochs if agent else (),
        trainer.epochs_done,
        rounds_measured=_seconds_of_rounds(session),
        more_follows=more_follows,
    )
    with (
        contextlib.closing(session.team) if session.team else contextlib.nullcontext(),
        contextlib.closing(agent) if agent else contextlib.nullcontext(),
        session.progress.stage("train", epochs, "epochs", trainer.epochs_done) as stage,
    ):
        left.tell(stage)
        while trainer.epochs_done < epochs:
            asked = time.perf_counter()
            synthetic = _ask(session, agent) if agent else None
            if agent and trainer.epochs_done in agent.schedule.round_epochs:
                left.round_done(time.perf_counter() - asked)
                left.tell(stage, asked=True)
            with session.watch.measure("train"):
                metrics = trainer.fit_epoch(
                    trainer.epochs_done + 1,
                    session.real,
                    _synthetic_pixels(session, synthetic),
                    candidates=synthetic.candidates if synthetic else (),
                    steps=steps[trainer.epochs_done],
                    on_step=lambda _, steps, __: stage.advance(1 / steps),
                )
            if agent:
                agent.tell(session.classifier, epoch=trainer.epochs_done)
            elif session.guard:
                session.guard.note(session.classifier, trainer.epochs_done)
            _record_epoch(session, metrics, keep=trainer.epochs_done == epochs)
            left.epoch_done(metrics.seconds, metrics.optimizer_steps)
            left.tell(stage)
            if follower is not None:
                follower.epoch(session.metrics[-1])


def _seconds_of_rounds(session: Session) -> list[float]:
    """Return the seconds of each round of earlier attempts, as far as they can be read."""
    found = []
    for path in sorted(session.folder.path.glob("rounds/*/record.json")):
        with contextlib.suppress(RunFolderError):  # the round is made again
            found.append(sum(read_record(RoundRecord, path).seconds.values()))
    return found


def _ask(session: Session, agent: Agent) -> SyntheticImages | None:
    """Return the synthetic images of this epoch, after running a round if one is due.

    None once the guard has given up on them.
    """
    epoch, guard = session.trainer.epochs_done, session.guard
    if guard is not None:
        with session.watch.measure("evaluate"):
            check = guard.check(session.classifier, epoch)
        if check is not None and check.worse:
            session.progress.say(check.sentence)
        if guard.gave_up(epoch):
            agent.close()
            return None
    return agent.ask(session.classifier, epoch=epoch)


def _synthetic_pixels(session: Session, images: SyntheticImages | None) -> Pixels | None:
    """Return the images as pixels, which are kept until the agent returns other images."""
    if session.agent is None or images is None or not len(images):
        return None
    if session.synthetic is None or session.synthetic[0] is not images:
        pixels = session.agent.pixels_of(images, session.trainer.augmenter.stored_px)
        session.synthetic = (images, pixels)
    return session.synthetic[1]


def _record_epoch(session: Session, metrics: EpochMetrics, *, keep: bool) -> None:
    """Evaluate where that is due; write metrics and a checkpoint where one is due or `keep`."""
    session.folder.check_still_there()
    settings = session.config.training
    last = metrics.epoch == settings.epochs
    if last or metrics.epoch % settings.evaluate_every_epochs == 0:
        with session.watch.measure("evaluate"):
            metrics = replace(
                metrics,
                train_accuracy=evaluate(session.classifier, session.real, "train").top1,
                validation_accuracy=_validation_accuracy(session),
            )
    session.metrics.append(metrics)
    if keep or metrics.epoch % settings.checkpoint_every_epochs == 0:
        rows = [m.to_json() for m in session.metrics]
        session.folder.write_jsonl(session.folder.metrics_file, rows)
        files.write_json(session.folder.timing_file, session.watch.seconds)
        tensors, state = session.trainer.state()
        state = {**state, "metrics": rows}
        save_checkpoint(session.folder.checkpoints, metrics.epoch, tensors, state)


def _validation_accuracy(session: Session) -> float | None:
    if not len(session.validation):
        return None
    return evaluate(session.classifier, session.validation, "validation").top1


def _evaluate(session: Session) -> dict[str, Any]:
    """Evaluate the final classifier, or take the baseline's where the guard prefers it.

    Returns:
        split -> measures, as written.
    """
    folder, guard = session.folder, session.guard if session.agent else None
    if session.config.training.batchnorm_from_real:
        with session.watch.measure("train"):
            session.trainer.recompute_batchnorm(session.real)
    with session.watch.measure("evaluate"):
        record = guard.conclude(session.classifier) if guard else None
        if guard and record and record.chosen == BASELINE:
            guard.take_baseline_classifier()
            guard.take_baseline_predictions()
            evaluations = guard.baseline_evaluations()
        else:
            resize_px = session.trainer.augmenter.stored_px
            bits = session.splits.train.bits
            save_classifier(session.classifier, folder.classifier, resize_px=resize_px, bits=bits)
            evaluations = _evaluate_splits(session)
        if session.agent:
            write_second_opinion(
                folder,
                session.splits.train,
                rounds=range(len(session.agent.schedule.round_epochs)),
                device=str(session.classifier.device),
                trust_remote_code=session.config.trust_remote_code,
            )
            _measure_coverage(session)
        write_mistakes(folder, session.splits.test)
    files.write_json(folder.timing_file, session.watch.seconds)
    files.write_json(folder.evaluation_file, evaluations)
    return evaluations


def _measure_coverage(session: Session) -> None:
    """Write how the synthetic images of the last epoch lie among the validation images."""
    last = session.config.training.epochs - 1
    if session.agent is None or not len(session.validation):
        return
    if session.guard is not None and session.guard.gave_up(last):
        return
    images = session.agent.ask(session.classifier, epoch=last)  # again: its rounds are finished
    pixels = _synthetic_pixels(session, images)
    if pixels is None:
        return
    measured = coverage_by_class(
        session.classifier,
        pixels,
        [candidate.made_from for candidate in images.candidates],
        train=session.real,
        real=session.validation,
    )
    rows = {name: one.to_json() for name, one in measured.items()}
    if rows:
        session.folder.write_json(session.folder.coverage_file, rows)


def _evaluate_splits(session: Session) -> dict[str, Any]:
    """Return the evaluation on each split; the only place that reads the test split."""
    size_px = session.trainer.augmenter.stored_px
    test = Pixels.from_images(session.splits.test, size_px)

    def record(predicted_N: Tensor) -> None:
        columns = zip(test.ids, test.labels.tolist(), predicted_N.tolist(), strict=True)
        rows = [{"id": id_, "label": label, "predicted": said} for id_, label, said in columns]
        session.folder.write_jsonl(session.folder.test_predictions_file, rows)

    evaluations = {
        split: evaluate(session.classifier, pixels, split).to_json()
        for split, pixels in (("train", session.real), ("validation", session.validation))
        if len(pixels)
    }
    if len(test):
        evaluated = evaluate(session.classifier, test, "test", on_predicted=record)
        evaluations["test"] = evaluated.to_json()
    return evaluations
