"""A finished run's classifier on corrupted images, in Python and on the command line."""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from gendataagent.cli.evaluate import parse_severities
from gendataagent.config.run_config_file import read_run_config, write_run_config
from gendataagent.core import files
from gendataagent.core.errors import ConfigError, DataError, RunFolderError
from gendataagent.core.progress import SilentProgress, Stage
from gendataagent.core.run_folder import RunFolder
from gendataagent.data import load_data
from gendataagent.data.pixels import Pixels
from gendataagent.runs.reload import (
    ROBUSTNESS_FILE,
    evaluate_corrupted,
    evaluate_on,
    evaluate_parts,
    load_classifier,
)
from gendataagent.runs.results import read_result
from gendataagent.runs.run import run
from gendataagent.training.corruptions import corrupted
from gendataagent.training.evaluation import evaluate
from tests.cli.test_cli import _type
from tests.small_world import settings_for

pytestmark = pytest.mark.integration

BOTH = ("gaussian_blur", "speckle_noise")


@pytest.fixture(scope="module")
def photos(photo_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Photographs that tests of this module may move away and back."""
    place = tmp_path_factory.mktemp("evaluate") / "photos"
    shutil.copytree(photo_folder, place)
    return place


@pytest.fixture(scope="module")
def finished(
    photos: Path, tiny_pipeline_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A finished run without the agent."""
    config = settings_for(photos, tiny_pipeline_folder)
    config = replace(
        config,
        agent=replace(config.agent, enabled=False),
        # stored with a margin around the centre crop, as for large images
        training=replace(config.training, augmentation="resized-crop", epochs=2),
    )
    path = tmp_path_factory.mktemp("evaluate") / "run"
    run(config, path)
    return path


@pytest.fixture
def a_copy(finished: Path, tmp_path: Path) -> Path:
    """A copy of the run to write to."""
    return Path(shutil.copytree(finished, tmp_path / "copy"))


class Counting(SilentProgress):
    """Records stages and the progress of each."""

    def __init__(self) -> None:
        self.stages: list[tuple[str, int | None]] = []
        self.done: dict[str, float] = {}

    @contextlib.contextmanager
    def stage(
        self, name: str, total: int | None = None, unit: str = "", done: int = 0
    ) -> Iterator[Stage]:
        self.stages.append((name, total))
        yield CountedStage(self, name)


class CountedStage:
    def __init__(self, progress: Counting, name: str) -> None:
        self._progress, self._name = progress, name

    def advance(self, amount: float = 1) -> None:
        done = self._progress.done
        done[self._name] = done.get(self._name, 0) + amount


def test_clean_repeats_the_run_and_corrupted_equals_measuring_by_hand(
    a_copy: Path,
) -> None:
    progress = Counting()
    robustness = evaluate_corrupted(a_copy, BOTH, (1, 5), progress=progress)
    assert robustness.clean == read_result(a_copy).evaluations["test"]
    assert (robustness.size_px, robustness.table_px) == (64, 64)
    assert list(robustness.corrupted) == list(BOTH)
    assert list(robustness.corrupted["gaussian_blur"]) == [1, 5]
    config = read_run_config(RunFolder.open(a_copy))
    test = load_data(config.data, seed=config.seed).test
    pixels = Pixels.from_images(test, 74)  # 64 / 0.875, with an even margin
    classifier = load_classifier(a_copy)
    for name in BOTH:
        worse = corrupted(pixels, name, 5, size_px=64)
        assert robustness.corrupted[name][5] == evaluate(classifier, worse, "test")
        assert robustness.corrupted[name][5].loss != robustness.clean.loss
        both = robustness.corrupted[name]
        assert robustness.mean_top1(name) == (both[1].top1 + both[5].top1) / 2
    assert progress.stages[-1] == ("evaluate", 5 * 12)
    assert progress.done["evaluate"] == 5 * 12
    assert progress.done["decode"] == 12


def test_the_report_is_saved_without_confusion_matrices(a_copy: Path) -> None:
    robustness = evaluate_corrupted(a_copy, ["speckle_noise"], [2])
    written = json.loads((a_copy / ROBUSTNESS_FILE).read_text())
    assert written == robustness.to_json()
    assert written["split"] == "test"
    assert written["images"] == 12
    assert written["images_from"] == read_run_config(RunFolder.open(a_copy)).data.path
    row = written["corrupted"]["speckle_noise"]["severity"]["2"]
    assert row["top1"] == written["corrupted"]["speckle_noise"]["mean_top1"]
    assert set(row["per_class"]) == set(read_result(a_copy).evaluations["test"].per_class)
    assert "confusion" not in row


def test_images_that_moved_are_found_with_data(a_copy: Path, photos: Path, tmp_path: Path) -> None:
    here = evaluate_corrupted(a_copy, ["gaussian_blur"], [3])
    elsewhere = tmp_path / "elsewhere"
    photos.rename(elsewhere)
    try:
        with pytest.raises(DataError, match=r"cannot be read where.*photos.*--data"):
            evaluate_corrupted(a_copy, ["gaussian_blur"], [3])
        moved = evaluate_corrupted(a_copy, ["gaussian_blur"], [3], data=str(elsewhere))
    finally:
        elsewhere.rename(photos)
    assert moved == replace(here, images_from=str(elsewhere))
    assert files.read_json(a_copy / ROBUSTNESS_FILE)["images_from"] == str(elsewhere)


def test_all_other_images_are_used_and_nothing_is_saved(
    a_copy: Path, photos: Path, tmp_path: Path
) -> None:
    others = Path(shutil.copytree(photos, tmp_path / "others"))
    next((others / "train" / "ship").iterdir()).unlink()
    robustness = evaluate_corrupted(a_copy, ["gaussian_blur"], [1], data=str(others))
    assert (robustness.clean.split, robustness.clean.images) == ("other", 47)
    assert robustness.clean == evaluate_on(a_copy, str(others))
    assert not (a_copy / ROBUSTNESS_FILE).exists()


def test_images_that_changed_are_refused(a_copy: Path, photos: Path, tmp_path: Path) -> None:
    image = next((photos / "test" / "ship").iterdir())
    image.rename(tmp_path / image.name)
    try:
        with pytest.raises(RunFolderError, match=r"not those that the run in .* missing: test"):
            evaluate_corrupted(a_copy, ["gaussian_blur"], [1])
    finally:
        (tmp_path / image.name).rename(image)


def test_a_run_that_is_not_finished_is_refused(a_copy: Path) -> None:
    (a_copy / "DONE").unlink()
    with pytest.raises(RunFolderError, match=r"not finished.*--resume"):
        evaluate_corrupted(a_copy)


def test_labels_are_matched_by_class_name(finished: Path, photos: Path, tmp_path: Path) -> None:
    """Two of three classes have other labels than in the run."""
    for name in ("dög mit Leerzeichen", "ship"):
        shutil.copytree(photos / "test" / name, tmp_path / "some" / name)
    confusion = evaluate_on(finished, str(tmp_path / "some")).confusion
    assert [sum(row) for row in confusion] == [0, 4, 4]


def test_the_printed_table(
    a_copy: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code = _type(
        monkeypatch, "evaluate", str(a_copy), "--corruptions", "gaussian_blur, speckle_noise",
        "--severity", "1,4-5",
    )  # fmt: skip
    printed = capsys.readouterr()
    assert code == 0, printed.err
    written = files.read_json(a_copy / ROBUSTNESS_FILE)
    lines = {line.split()[0]: line.split()[1:] for line in printed.out.splitlines() if line.strip()}
    assert lines["1"] == ["4", "5", "mean"]
    assert lines["clean"] == [f"{written['clean']['top1']:.1%}"]
    for name in BOTH:
        row = written["corrupted"][name]
        shown = [f"{row['severity'][s]['top1']:.1%}" for s in ("1", "4", "5")]
        assert lines[name] == [*shown, f"{row['mean_top1']:.1%}"]
    assert "12 images of the test split, read from" in printed.out
    assert str(a_copy / ROBUSTNESS_FILE) in printed.out


def test_other_images_on_the_command_line(
    a_copy: Path,
    photos: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    arguments = (
        "--corruptions",
        "gaussian_blur",
        "--severity",
        "1",
        "--data",
        str(photos / "test"),
    )
    assert _type(monkeypatch, "evaluate", str(a_copy), *arguments) == 0
    printed = capsys.readouterr().out
    assert f"12 images of all splits, read from {photos / 'test'}" in printed
    assert "not saved" in printed


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (
            ("--corruptions", "fog"),
            "'fog'; there are: gaussian_blur, speckle_noise",
        ),
        (("--corruptions", "gaussian_blur", "--severity", "1-6"), "must be from 1 to 5; got '1-6'"),
        (("--corruptions", ","), "at least one corruption"),
        (("--severity", "1"), "--severity needs --corruptions"),
        (("--set", "data.class_folder=last"), "needs --data DIR"),
        (("--data", "x", "--set", "training.epochs=2"), "for how --data is read"),
        (("--data", "x", "--set", "data.path=y"), "the place of the images is --data"),
        (("--data", "x", "--set", "data.class_folder=lst"), "must be one of auto, first, last"),
        (("--data", "x", "--set", "data.class_foldr=last"), "did you mean class_folder"),
    ],
)
def test_unknown_values_are_named_with_the_allowed_ones(
    finished: Path,
    arguments: tuple[str, ...],
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert _type(monkeypatch, "evaluate", str(finished), *arguments) == 2
    assert said in capsys.readouterr().err


def test_the_class_folder_that_a_note_advises_can_be_set(
    finished: Path,
    photos: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    names = sorted(path.name for path in (photos / "test").iterdir())
    for name, group in zip(names, ("alive", "alive", "made"), strict=True):
        shutil.copytree(photos / "test" / name, tmp_path / "groups" / group / name)
    arguments = ("evaluate", str(finished), "--data", str(tmp_path / "groups"))
    assert _type(monkeypatch, *arguments) != 0
    capsys.readouterr()
    for more in ((), ("--corruptions", "gaussian_blur", "--severity", "1")):
        assert _type(monkeypatch, *arguments, *more, "--set", "data.class_folder=last") == 0
        assert "12 images" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("text", "severities"),
    [("1-5", [1, 2, 3, 4, 5]), ("3", [3]), ("1,3", [1, 3]), (" 5, 1 - 2 ,2", [1, 2, 5])],
)
def test_severities_are_parsed(text: str, severities: list[int]) -> None:
    assert parse_severities(text) == severities


@pytest.mark.parametrize("text", ["", "0", "6", "1-", "-1", "a", "3-1", "1;2", "1-9", "²"])
def test_invalid_severities_are_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="--severity"):
        parse_severities(text)


def test_one_class_of_the_test_split_alone(finished: Path, photos: Path, tmp_path: Path) -> None:
    shutil.copytree(photos / "test" / "ship", tmp_path / "some" / "test" / "ship")
    evaluation = evaluate_on(finished, str(tmp_path / "some"))
    assert [sum(row) for row in evaluation.confusion] == [0, 0, 4]
    assert list(evaluation.per_class) == ["ship"]
    robustness = evaluate_corrupted(
        finished, ["gaussian_blur"], [1], data=str(tmp_path / "some" / "test")
    )
    assert robustness.clean == evaluation


def test_other_classes_are_refused_with_both_lists(
    finished: Path, photos: Path, tmp_path: Path
) -> None:
    shutil.copytree(photos / "test" / "ship", tmp_path / "some" / "boat")
    with pytest.raises(DataError) as error:
        evaluate_on(finished, str(tmp_path / "some"))
    assert "the classifier has no class boat: the data has 'boat'; the classifier has" in str(
        error.value
    )
    assert "'ship'" in str(error.value)


def test_a_table_names_images_of_its_own_folder_not_of_the_runs(
    a_copy: Path, photos: Path, tmp_path: Path
) -> None:
    """A path such as cat/1.png may exist in both: the run's data.image_root is not taken over."""
    folder = RunFolder.open(a_copy)
    config = read_run_config(folder)
    settings = replace(config.data, image_root=str(photos / "test"), image_column="image")
    write_run_config(folder, replace(config, data=settings))
    one = next((photos / "test/ship").iterdir())
    (tmp_path / "new/ship").mkdir(parents=True)
    Image.new("RGB", (32, 32), "black").save(tmp_path / "new/ship" / one.name)
    rows = {"image": [f"ship/{one.name}"], "label": ["ship"]}
    pq.write_table(pa.table(rows), tmp_path / "new/table.parquet")
    table = str(tmp_path / "new/table.parquet")
    assert evaluate_on(a_copy, table).images == 1
    (tmp_path / "new/ship" / one.name).unlink()
    with pytest.raises(DataError, match="can be read"):
        evaluate_on(a_copy, table)
    assert evaluate_on(a_copy, table, image_root=str(photos / "test")).images == 1


def test_images_that_the_run_was_trained_on_are_told_apart(
    finished: Path, photos: Path, tmp_path: Path
) -> None:
    """By content: they have other names and places, and all classes in one folder each."""
    for number, image in enumerate(sorted(photos.glob("*/*/*.png"))):
        place = tmp_path / "some" / image.parent.name / f"{number}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(image, place)
    found = evaluate_parts(finished, str(tmp_path / "some"))
    assert found.every == evaluate_on(finished, str(tmp_path / "some"))
    assert {part: e.images for part, e in found.parts.items()} == {
        "train": 24, "validation": 12, "unseen": 12,
    }  # fmt: skip
    test = read_result(finished).evaluations["test"]
    assert found.parts["unseen"].confusion == test.confusion
    alone = evaluate_parts(finished, str(photos / "train"))
    assert list(alone.parts) == ["train"]


def test_both_parts_are_printed(
    finished: Path, photos: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    assert _type(monkeypatch, "evaluate", str(finished), "--data", str(photos)) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("48 images: top-1")
    assert lines[1].startswith("  24 that the run was trained on: top-1")
    assert lines[2].startswith("  12 that the run was validated on while training: top-1")
    assert lines[3].startswith("  12 others: top-1")
    assert _type(monkeypatch, "evaluate", str(finished), "--data", str(photos / "train")) == 0
    assert "None is new to the run" in capsys.readouterr().out
