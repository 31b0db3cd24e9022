"""A finished run's classifier on image files: through Python, and as a user types it."""

from __future__ import annotations

import io
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from gendataagent.cli.predict import find_images
from gendataagent.config.run_config_file import read_run_config
from gendataagent.core.errors import RunFolderError
from gendataagent.core.run_folder import RunFolder
from gendataagent.data import load_data
from gendataagent.data.pixels import Pixels
from gendataagent.runs.reload import load_classifier
from gendataagent.runs.results import read_result
from gendataagent.runs.run import resume, run
from gendataagent.training.evaluation import evaluate
from gendataagent.training.prediction import predict_files
from gendataagent.training.saving import save_classifier
from tests.cli.test_cli import _type
from tests.small_world import settings_for


@pytest.fixture(scope="module")
def finished(
    photo_folder: Path, tiny_pipeline_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A finished run without the agent, its images stored with a margin around the crop."""
    config = settings_for(photo_folder, tiny_pipeline_folder)
    config = replace(
        config,
        agent=replace(config.agent, enabled=False),
        training=replace(config.training, augmentation="resized-crop", epochs=2),
    )
    path = tmp_path_factory.mktemp("predict") / "run"
    run(config, path)
    return path


@pytest.fixture
def photos(photo_folder: Path, tmp_path: Path) -> Path:
    """Three photographs of one class, one of them wide."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for number, path in enumerate(sorted((photo_folder / "test" / "ship").iterdir())[:3]):
        shutil.copy(path, folder / f"{number}.png")
    pixels = np.random.default_rng(0).integers(0, 256, (45, 80, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(folder / "2.png")
    return folder


def rows_of(out: str) -> list[dict[str, object]]:
    return [json.loads(line) for line in out.splitlines()]


def test_the_classifier_loads_from_its_folder_alone(finished: Path, tmp_path: Path) -> None:
    alone = Path(shutil.copytree(finished / "classifier", tmp_path / "elsewhere"))
    classifier = load_classifier(alone)
    assert not classifier.module.training
    config = read_run_config(RunFolder.open(finished))
    test = load_data(config.data, seed=config.seed).test
    pixels = Pixels.from_images(test, classifier.resize_px)
    assert evaluate(classifier, pixels, "test") == read_result(finished).evaluations["test"]
    by_run = load_classifier(finished)
    assert torch.equal(by_run.predict_logits(pixels), classifier.predict_logits(pixels))
    assert by_run.class_names == test.class_names


def test_what_is_no_run_or_not_finished_is_explained(finished: Path, tmp_path: Path) -> None:
    with pytest.raises(RunFolderError, match=r"no trained classifier in .*neither classifier/"):
        load_classifier(tmp_path)
    stopped = Path(shutil.copytree(finished, tmp_path / "stopped"))
    shutil.rmtree(stopped / "classifier")
    with pytest.raises(RunFolderError, match=r"not finished; resume it: .*--resume"):
        load_classifier(stopped)


def test_a_run_killed_while_it_saved_its_classifier_resumes(finished: Path, tmp_path: Path) -> None:
    killed = Path(shutil.copytree(finished, tmp_path / "killed"))
    before = {path.name: path.read_bytes() for path in (killed / "classifier").iterdir()}
    (killed / "classifier").rename(killed / ".classifier.99.tmp")
    (killed / ".classifier.99.tmp" / "model.safetensors").write_bytes(b"half")
    for name in ("DONE", "evaluation.json"):
        (killed / name).unlink()
    assert resume(killed).evaluations == read_result(finished).evaluations
    after = {path.name: path.read_bytes() for path in (killed / "classifier").iterdir()}
    assert after == before
    assert not list(killed.glob(".classifier.*"))


@pytest.mark.parametrize("batch_size", [2, 64])
def test_predictions_are_the_classifier_s_probabilities(
    finished: Path, photos: Path, batch_size: int
) -> None:
    classifier = load_classifier(finished)
    paths = sorted(photos.iterdir())
    images = [Image.open(path).convert("RGB") for path in paths]
    pixels = Pixels.from_pil(images, [0] * 3, ids=["a", "b", "c"], size_px=classifier.resize_px)
    probabilities_NC = classifier.predict_probabilities(pixels, batch_size)
    done: list[int] = []
    found = list(
        predict_files(
            classifier, paths, top=9, batch_size=batch_size,
            on_unreadable=lambda path, reason: pytest.fail(f"{path}: {reason}"),
            on_batch=done.append,
        )
    )  # fmt: skip
    assert sum(done) == 3
    assert [prediction.path for prediction in found] == paths
    for prediction, probabilities_C in zip(found, probabilities_NC, strict=True):
        order = probabilities_C.argsort(descending=True).tolist()
        assert prediction.classes == tuple(
            (classifier.class_names[label], float(probabilities_C[label])) for label in order
        )


@pytest.mark.parametrize("place", ["", "classifier"])
def test_json_is_all_that_is_printed(
    place: str,
    finished: Path,
    photos: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    code = _type(monkeypatch, "predict", str(finished / place), str(photos), "--json", "--top", "2")
    printed = capsys.readouterr()
    assert code == 0, printed.err
    rows = rows_of(printed.out)
    assert [row["file"] for row in rows] == [str(photos / f"{number}.png") for number in range(3)]
    classifier = load_classifier(finished)
    expected = predict_files(
        classifier, sorted(photos.iterdir()), top=2, on_unreadable=lambda *_: None
    )
    for row, prediction in zip(rows, expected, strict=True):
        best, second = prediction.classes
        assert (row["class"], row["probability"]) == best
        assert row["top"] == [
            {"class": name, "probability": share} for name, share in (best, second)
        ]


def test_unreadable_images_are_named_and_the_others_predicted(
    finished: Path,
    photos: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (photos / "1.png").write_bytes((photos / "1.png").read_bytes()[:200])
    (photos / "empty.jpg").touch()
    (photos / "notes.txt").write_text("not an image, and not taken for one")
    missing = photos / "missing.jpg"
    code = _type(monkeypatch, "predict", str(finished), str(photos), str(missing), "--json")
    printed = capsys.readouterr()
    assert code == 1
    names = [Path(str(row["file"])).name for row in rows_of(printed.out)]
    assert names == ["0.png", "2.png"]
    err = " ".join(printed.err.split())
    assert f"cannot read {photos / '1.png'}: " in err
    assert f"cannot read {photos / 'empty.jpg'}: empty (0 bytes)" in err
    assert f"cannot read {missing}: No such file or directory" in err
    assert "3 of 5 images could not be read" in err


def test_files_folders_and_patterns_are_each_taken_once(
    finished: Path,
    photos: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (photos / "deeper").mkdir()
    shutil.move(photos / "0.png", photos / "deeper" / "[0].png")
    arguments = (str(photos / "2.png"), str(photos / "[12].png"), str(photos))
    code = _type(
        monkeypatch, "predict", str(finished), *arguments, str(photos / "deeper" / "[0].png"),
        "--json",
    )  # fmt: skip
    printed = capsys.readouterr()
    assert code == 0, printed.err
    names = [Path(str(row["file"])).name for row in rows_of(printed.out)]
    assert names == ["2.png", "1.png", "[0].png"]


@pytest.mark.parametrize("argument", ["nothing*.png", "."])
def test_no_images_is_an_error(
    argument: str,
    finished: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    code = _type(monkeypatch, "predict", str(finished), str(tmp_path / argument))
    assert code == 1
    assert "there are no images in" in capsys.readouterr().err


def test_the_table(
    finished: Path,
    photos: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    code = _type(monkeypatch, "predict", str(finished), str(photos), "--top", "2")
    printed = capsys.readouterr()
    assert code == 0, printed.err
    lines = [line.rstrip() for line in printed.out.splitlines()]
    assert lines[0].split() == ["file", "class", "probability"]
    assert len(lines) == 1 + 3 * 2
    found = predict_files(
        load_classifier(finished), sorted(photos.iterdir()), on_unreadable=lambda *_: None
    )
    for line, prediction in zip(lines[1::2], found, strict=True):
        ((name, probability),) = prediction.classes
        assert line.startswith(str(prediction.path))
        assert line.endswith(f"{probability:.1%}")
        assert name in line


def test_a_folder_is_searched_as_training_does(photos: Path) -> None:
    for name in ("@eaDir/0.png/THUMB.png", ".thumbnails/0.png", "._0.png"):
        (photos / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(photos / "0.png", photos / name)
    (photos / "again").symlink_to(photos)
    assert find_images([str(photos)]) == [photos / f"{number}.png" for number in range(3)]
    (photos / "gone.png").symlink_to("nowhere.png")
    assert photos / "gone.png" in find_images([str(photos)])  # reported as unreadable


def test_damaged_tails_are_unreadable(finished: Path, photos: Path) -> None:
    stream = io.BytesIO()
    coarse = np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8)
    Image.fromarray(coarse).resize((200, 200)).save(stream, "WEBP")
    content = stream.getvalue()
    half = len(content) // 2
    (photos / "half.webp").write_bytes(content[:half] + bytes(half))
    unreadable: dict[Path, str] = {}
    classifier = load_classifier(finished)
    for _ in predict_files(
        classifier, [photos / "half.webp"], on_unreadable=unreadable.__setitem__
    ):
        pytest.fail("half a file was classified")
    assert "not fully copied" in unreadable[photos / "half.webp"]


def test_images_of_16_bits_are_scaled_as_those_of_the_training(
    finished: Path, tmp_path: Path
) -> None:
    classifier = load_classifier(finished)
    save_classifier(classifier, tmp_path / "deep", resize_px=classifier.resize_px, bits=12)
    dark = np.random.default_rng(0).integers(0, 900, (40, 40), dtype=np.uint16)
    Image.fromarray(dark).save(tmp_path / "dark.png")
    eight = Image.fromarray(np.rint(dark.astype(float) * 255 / 4095).astype(np.uint8)).convert(
        "RGB"
    )
    eight.save(tmp_path / "eight.png")
    again = load_classifier(tmp_path / "deep")
    assert again.bits == 12
    assert "from 12 first" in (tmp_path / "deep/README.md").read_text()
    paths = [tmp_path / "dark.png", tmp_path / "eight.png"]
    one, other = predict_files(again, paths, on_unreadable=lambda path, why: pytest.fail(why))
    assert one.classes == other.classes
