"""The baseline guard: when a run is worse than its baseline, and which classifier it keeps."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from gendataagent.config import RunConfig
from gendataagent.core import files
from gendataagent.core.errors import DataError, RunFolderError
from gendataagent.core.run_folder import RunFolder
from gendataagent.data.pixels import Pixels
from gendataagent.runs.baseline_guard import (
    AGENT,
    BASELINE,
    BaselineGuard,
    GuardCheck,
)
from gendataagent.runs.paired import mcnemar_p_value
from gendataagent.training.classifier import Classifier
from gendataagent.training.evaluation import evaluate

IMAGES = 40
EPOCHS = (4, 6, 8)  # between the rounds at 2, 4, 6, 8
CONFIG = RunConfig.from_dict(
    {"training": {"epochs": 10}, "agent": {"guard": True, "rounds": 4, "first_round_epoch": 2}}
)


class Knows(nn.Module):
    """Is right on the first `right` images; red says which image it is, green its class."""

    def __init__(self, right: int, sure: float) -> None:
        super().__init__()
        self.right, self.sure = right, sure

    def forward(self, images_B3SS: Tensor) -> Tensor:
        number_B = (images_B3SS[:, 0, 0, 0] * 255).round()
        label_B = (images_B3SS[:, 1, 0, 0] * 255).round().long()
        said_B = torch.where(number_B < self.right, label_B, 1 - label_B)
        return nn.functional.one_hot(said_B, 2) * self.sure


def knows(right: int, sure: float = 1.0) -> Classifier:
    return Classifier(
        Knows(right, sure), class_names="ab", size_px=1, mean=(0, 0, 0), std=(1, 1, 1)
    )


def make_images(count: int = IMAGES) -> Pixels:
    numbers = torch.arange(count)
    images = torch.stack([numbers, numbers % 2, 0 * numbers], dim=1)[:, :, None, None]
    return Pixels(
        images.to(torch.uint8).__getitem__, numbers % 2, ids=[str(i) for i in range(count)],
        size_px=1,
    )  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    return RunFolder(tmp_path / "run")


def guard_of(folder: RunFolder) -> BaselineGuard:
    return BaselineGuard(folder, CONFIG, make_images())


def baseline_knows(folder: RunFolder, right: int) -> None:
    """Record a baseline that is right on the first images at each epoch."""
    inner = BaselineGuard(RunFolder(folder.baseline), CONFIG, make_images())
    for epoch in range(1, 11):
        inner.note(knows(right), epoch)


@given(st.integers(0, 30), st.integers(0, 30))
def test_the_p_value_is_the_tail_of_a_fair_coin(agent: int, baseline: int) -> None:
    n = agent + baseline
    expected = sum(math.comb(n, k) for k in range(baseline, n + 1)) / 2**n
    assert mcnemar_p_value(agent, baseline) == pytest.approx(expected)


def test_p_values_known_by_hand() -> None:
    assert mcnemar_p_value(0, 0) == 1.0
    assert mcnemar_p_value(5, 0) == 1.0
    assert mcnemar_p_value(0, 5) == 1 / 32
    assert mcnemar_p_value(0, 4) == 1 / 16
    assert 0 <= mcnemar_p_value(4000, 6000) < 1e-80


def test_the_baseline_records_its_correct_images_before_each_round(
    folder: RunFolder,
) -> None:
    baseline_knows(folder, 30)
    written = sorted((folder.baseline / "guard").iterdir())
    assert [file.name for file in written] == [f"right-{epoch:04d}.json" for epoch in EPOCHS]
    assert files.read_json(written[0]) == {"epoch": 4, "right": "1" * 30 + "0" * 10}


def checks_of(folder: RunFolder, rights: list[int], epochs: tuple[int, ...] = EPOCHS) -> list[bool]:
    """Return at each epoch whether the run has given up, given how much it knows."""
    gave_up = []
    for epoch, right in zip(epochs, rights, strict=True):
        guard = guard_of(folder)  # as after an interruption
        guard.check(knows(right), epoch)
        gave_up.append(guard.gave_up(epoch))
    return gave_up


@pytest.mark.parametrize(
    ("rights", "gave_up"),
    [
        ([25, 25, 40], [False, True, True]),  # 5 behind, p = 1/32, twice in a row
        ([25, 26, 25], [False, False, False]),  # 4 behind is not significant
        ([40, 25, 25], [False, False, True]),
        ([40, 40, 0], [False, False, False]),
    ],
)
def test_worse_twice_in_a_row_ends_the_use_of_synthetic_images(
    folder: RunFolder, rights: list[int], gave_up: list[bool]
) -> None:
    baseline_knows(folder, 30)
    assert checks_of(folder, rights) == gave_up
    rows = files.read_jsonl(folder.path / "guard" / "checks.jsonl")
    expected = len(EPOCHS) - 1 if gave_up[1] else len(EPOCHS)
    assert len(rows) == expected  # no more comparisons once it gave up


def test_only_images_on_which_the_two_differ_count(folder: RunFolder) -> None:
    baseline_knows(folder, 30)
    check = guard_of(folder).check(knows(33), 4)
    assert check == GuardCheck(
        epoch=4, images=IMAGES, only_agent=3, only_baseline=0, p_value=1.0, worse=False,
        stopped=False,
    )  # fmt: skip


def test_a_check_is_made_once_and_only_before_a_round(folder: RunFolder) -> None:
    baseline_knows(folder, 30)
    assert guard_of(folder).check(knows(0), 3) is None
    first = guard_of(folder).check(knows(25), 4)
    assert first is not None
    assert first.worse
    assert not first.stopped
    assert "Worse once" in first.sentence
    assert guard_of(folder).check(knows(0), 4) is None
    second = guard_of(folder).check(knows(25), 6)
    assert second is not None
    assert second.stopped
    assert "without synthetic images" in second.sentence


def test_a_run_restored_to_an_earlier_epoch_has_not_given_up_yet(folder: RunFolder) -> None:
    baseline_knows(folder, 30)
    checks_of(folder, [25, 25], (4, 6))
    assert not guard_of(folder).gave_up(5)
    assert guard_of(folder).gave_up(6)


@pytest.mark.parametrize(
    ("mine", "theirs", "chosen"),
    [
        ((30, 1.0), (31, 1.0), BASELINE),
        ((31, 1.0), (30, 1.0), AGENT),
        ((30, 0.5), (30, 1.0), BASELINE),  # surer of what is mostly right
        ((30, 1.0), (30, 0.5), AGENT),
        ((30, 1.0), (30, 1.0), AGENT),
    ],
)
def test_the_better_classifier_on_validation_is_chosen(
    folder: RunFolder, mine: tuple[int, float], theirs: tuple[int, float], chosen: str
) -> None:
    theirs_measured = evaluate(knows(*theirs), make_images(), "validation")
    files.write_json(folder.baseline / "evaluation.json", {"validation": theirs_measured.to_json()})
    record = guard_of(folder).conclude(knows(*mine))
    assert record.chosen == chosen
    assert (record.agent_top1, record.baseline_top1) == (mine[0] / IMAGES, theirs[0] / IMAGES)
    assert files.read_json(folder.guard_file) == record.to_json()
    assert ("trained with the agent" in record.sentence) is (chosen == AGENT)
    assert record.stopped_epoch is None


def test_the_record_says_when_synthetic_images_were_given_up(folder: RunFolder) -> None:
    baseline_knows(folder, 30)
    checks_of(folder, [25, 25], (4, 6))
    theirs = evaluate(knows(30), make_images(), "validation")
    files.write_json(folder.baseline / "evaluation.json", {"validation": theirs.to_json()})
    record = guard_of(folder).conclude(knows(25))
    assert record.stopped_epoch == 6
    assert "No synthetic images were used after epoch 6" in record.sentence


def test_errors_about_missing_records_say_what_to_do(folder: RunFolder) -> None:
    with pytest.raises(RunFolderError, match=r"right-0004\.json is missing.*--resume"):
        guard_of(folder).check(knows(3), 4)
    inner = BaselineGuard(RunFolder(folder.baseline), CONFIG, make_images(7))
    inner.note(knows(3), 4)
    with pytest.raises(RunFolderError, match="covers 7 validation images"):
        guard_of(folder).check(knows(3), 4)
    with pytest.raises(RunFolderError, match="has no classifier"):
        guard_of(folder).take_baseline_classifier()
    with pytest.raises(DataError, match="validation_share"):
        BaselineGuard(folder, CONFIG, make_images(0))
