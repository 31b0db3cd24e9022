"""The end of a run: the final classifier, its evaluations, and what the report shows of both."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gendataagent.core import files
from gendataagent.data.pixels import Pixels
from gendataagent.runs.baseline_guard import BASELINE
from gendataagent.runs.loop import synthetic_pixels
from gendataagent.runs.mistakes import write_mistakes
from gendataagent.runs.second_opinion import write_second_opinion
from gendataagent.runs.session import Session
from gendataagent.training.coverage import coverage_by_class
from gendataagent.training.evaluation import evaluate
from gendataagent.training.saving import save_classifier

if TYPE_CHECKING:
    from torch import Tensor


def conclude(session: Session) -> dict[str, Any]:
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
    pixels = synthetic_pixels(session, images)
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
