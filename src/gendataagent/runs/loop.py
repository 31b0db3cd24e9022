"""The epochs of a run: rounds when they are due, training, records and checkpoints."""

from __future__ import annotations

import contextlib
import time
from dataclasses import replace
from typing import TYPE_CHECKING

from gendataagent.agent.agent import Agent
from gendataagent.agent.steps import planned_steps
from gendataagent.agent.synthetic import SyntheticImages
from gendataagent.core import files
from gendataagent.core.checkpoints import save_checkpoint
from gendataagent.core.errors import RunFolderError
from gendataagent.core.records import EpochMetrics, RoundRecord
from gendataagent.core.rows import read_record
from gendataagent.data.pixels import Pixels
from gendataagent.runs.session import Session
from gendataagent.runs.time_left import TimeLeft
from gendataagent.runs.tracking import Tracking
from gendataagent.training.evaluation import evaluate

if TYPE_CHECKING:
    pass


def train(
    session: Session,
    epochs: int,
    follower: Tracking | None = None,
    *,
    more_follows: bool = False,
) -> None:
    """Train up to `epochs` epochs, asking the agent for images on the way.

    Args:
        more_follows: whether this is the first of two trainings, for the time left.
    """
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
                    synthetic_pixels(session, synthetic),
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


def synthetic_pixels(session: Session, images: SyntheticImages | None) -> Pixels | None:
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
