"""A run with the agent that does not end worse than without it, judged on validation.

The same training without the agent runs first, in RUN/baseline, and records which validation images
it classifies correctly before each round. There the run is compared with it: when it is
significantly worse twice in a row, it continues without synthetic images. At the end the better of
the two classifiers becomes the run's.

    RUN/baseline/guard/right-0010.json   which validation images the baseline classifies correctly
    RUN/guard/checks.jsonl               one GuardCheck for each comparison
    RUN/guard/outcome.json               GuardRecord
"""

from __future__ import annotations

import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from gendataagent.agent.schedule import guard_epochs
from gendataagent.config import RunConfig
from gendataagent.core import files, memory
from gendataagent.core.errors import DataError, RunFolderError
from gendataagent.core.records import Evaluation, GuardRecord
from gendataagent.core.rows import read_mapping, read_record, read_records
from gendataagent.core.run_folder import RunFolder
from gendataagent.data.pixels import Pixels
from gendataagent.runs.paired import SIGNIFICANT, mcnemar_p_value
from gendataagent.training.classifier import Classifier
from gendataagent.training.evaluation import evaluate

AGENT, BASELINE = "agent", "baseline"


@dataclass(frozen=True, slots=True, kw_only=True)
class GuardCheck:
    """A run and its baseline after the same number of epochs, on the validation images.

    Args:
        epoch: epochs trained.
        only_agent, only_baseline: images that only that one of the two classifies correctly.
        p_value: of McNemar's exact test, one-sided: the run is worse than its baseline.
        worse: whether `p_value` is below 5 %.
        stopped: whether the run uses no synthetic images from here on (worse twice in a row).
    """

    epoch: int
    images: int
    only_agent: int
    only_baseline: int
    p_value: float
    worse: bool
    stopped: bool

    @property
    def sentence(self) -> str:
        """The check in one line for the terminal."""
        return (
            f"guard: after epoch {self.epoch}, {self.only_baseline} of {self.images} validation "
            f"images are correct only without the agent, {self.only_agent} only with it "
            f"(p = {self.p_value:.2g}). "
            + ("The run continues without synthetic images" if self.stopped else "Worse once")
        )

    def to_json(self) -> dict[str, Any]:
        """Return the fields as plain JSON values."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class _Right:
    """Which validation images a baseline classifies correctly, one digit each."""

    epoch: int
    right: str


class BaselineGuard:
    """Compares one run with its baseline, or records in the baseline what the run needs for that.

    Raises:
        DataError: there are no validation images.
    """

    def __init__(self, folder: RunFolder, config: RunConfig, validation: Pixels) -> None:
        if not len(validation):
            raise DataError(
                "agent.guard compares on the validation images, and there are none; provide a "
                "validation split, raise data.validation_share, or set agent.guard=false"
            )
        self._folder, self._validation = folder, validation
        self._epochs = guard_epochs(config)

    def note(self, classifier: Classifier, epoch: int) -> None:
        """Record what a baseline classifies correctly, where its run will be compared with it."""
        if epoch in self._epochs:
            right_V = self._right(classifier).tolist()
            row = {"epoch": epoch, "right": "".join(str(int(right)) for right in right_V)}
            self._folder.write_json(_right_file(self._folder.path, epoch), row)

    def check(self, classifier: Classifier, epoch: int) -> GuardCheck | None:
        """Compare the run with its baseline if a round is due after `epoch`.

        Returns:
            The check if it is new; None if an interrupted attempt recorded it before.

        Raises:
            RunFolderError: the baseline's record is missing.
        """
        checks = self._checks()
        if (
            epoch not in self._epochs
            or self.gave_up(epoch)
            or any(check.epoch == epoch for check in checks)
        ):
            return None
        mine_V, theirs_V = self._right(classifier), self._baseline_right(epoch)
        only_agent = sum(m and not t for m, t in zip(mine_V.tolist(), theirs_V, strict=True))
        only_baseline = sum(t and not m for m, t in zip(mine_V.tolist(), theirs_V, strict=True))
        p_value = mcnemar_p_value(only_agent, only_baseline)
        before = [check for check in checks if check.epoch < epoch]
        check = GuardCheck(
            epoch=epoch,
            images=len(theirs_V),
            only_agent=only_agent,
            only_baseline=only_baseline,
            p_value=p_value,
            worse=p_value < SIGNIFICANT,
            stopped=p_value < SIGNIFICANT and bool(before) and before[-1].worse,
        )
        rows = [each.to_json() for each in (*before, check)]
        self._folder.write_jsonl(self._checks_file, rows)
        return check

    def gave_up(self, epoch: int) -> bool:
        """Return whether the run uses no synthetic images after `epoch` epochs."""
        return any(check.stopped and check.epoch <= epoch for check in self._checks())

    def conclude(self, classifier: Classifier) -> GuardRecord:
        """Choose between the run's classifier and the baseline's on validation; write the record.

        The higher accuracy wins; on a tie the lower log-loss.

        Raises:
            RunFolderError: the baseline's evaluation is missing.
        """
        mine = evaluate(classifier, self._validation, "validation")
        theirs = self.baseline_evaluations()["validation"]
        better = (theirs["top1"], -theirs["loss"]) > (mine.top1, -mine.loss)
        stopped = [check.epoch for check in self._checks() if check.stopped]
        record = GuardRecord(
            chosen=BASELINE if better else AGENT,
            agent_top1=mine.top1,
            agent_loss=mine.loss,
            baseline_top1=theirs["top1"],
            baseline_loss=theirs["loss"],
            stopped_epoch=stopped[0] if stopped else None,
        )
        self._folder.write_json(self._folder.guard_file, record.to_json())
        return record

    def baseline_evaluations(self) -> dict[str, Any]:
        """Return the baseline's evaluations, by split."""
        self._baseline.check_done(self._baseline.evaluation_file)
        evaluations = read_mapping(self._baseline.evaluation_file, Evaluation)
        return {split: evaluation.to_json() for split, evaluation in evaluations.items()}

    def take_baseline_classifier(self) -> None:
        """Make the baseline's classifier the run's.

        Raises:
            RunFolderError: the baseline has none.
        """
        theirs = self._baseline.classifier
        if not theirs.is_dir():
            raise RunFolderError(
                f"the baseline in {self._baseline.path} has no classifier; remove that folder "
                "and resume the run with --resume, which trains the baseline again"
            )
        self._baseline.check_done(theirs)
        with files.atomic_folder(self._folder.classifier) as aside:
            shutil.copytree(theirs, aside, dirs_exist_ok=True)

    def take_baseline_predictions(self) -> None:
        """Make the baseline's predictions on the test images those of the run.

        Raises:
            RunFolderError: they are missing or have changed.
        """
        theirs = self._baseline.test_predictions_file
        self._baseline.check_done(theirs)
        self._folder.write(self._folder.test_predictions_file, files.read_bytes(theirs))

    @property
    def _baseline(self) -> RunFolder:
        return RunFolder(self._folder.baseline)

    @property
    def _checks_file(self) -> Path:
        return self._folder.guard_file.with_name("checks.jsonl")

    def _checks(self) -> list[GuardCheck]:
        if not self._checks_file.exists():
            return []
        if damage := self._folder.damage(self._checks_file):
            raise RunFolderError(
                f"{damage}; it holds the comparisons with the baseline. Put it back from a copy, "
                "or start a new run with --out"
            )
        return read_records(GuardCheck, self._checks_file)

    def _right(self, classifier: Classifier) -> Tensor:
        """Return whether each validation image is classified correctly, [V]."""
        logits_VC = classifier.predict_logits(
            self._validation, memory.scoring_batch(classifier.size_px)
        )
        return logits_VC.argmax(dim=1) == self._validation.labels

    def _baseline_right(self, epoch: int) -> list[bool]:
        path = _right_file(self._folder.baseline, epoch)
        if damage := self._baseline.damage(path):
            raise RunFolderError(
                f"{damage}; it holds which validation images the baseline classifies "
                f"correctly after {epoch} epochs. Remove {self._folder.baseline} and resume the "
                "run with --resume, which trains the baseline again"
            )
        right = [digit == "1" for digit in read_record(_Right, path).right]
        if len(right) != len(self._validation):
            raise RunFolderError(
                f"{path} covers {len(right)} validation images, but there are "
                f"{len(self._validation)}: the images have changed since. Put them back"
            )
        return right


def _right_file(run: Path, epoch: int) -> Path:
    return run / "guard" / f"right-{epoch:04d}.json"
