"""An exported model computes what the run's classifier computes, also without this package."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from PIL import Image

from gendataagent.core.errors import ConfigError, ModelError, RunFolderError
from gendataagent.data.pixels import Pixels
from gendataagent.runs.exporting.model_check import check_model
from gendataagent.runs.exporting.model_formats import MODEL_FORMATS
from gendataagent.runs.exporting.models import export_model
from gendataagent.runs.reload import load_classifier
from gendataagent.training.classifier import Classifier
from gendataagent.training.prediction import predict_files
from tests.cli.test_cli import _type
from tests.runs.test_resume import Interrupting
from tests.test_readme import blocks_of, run_blocks
from tests.training.test_saving import ENCODERS, STOCK, photo, trained

pytestmark = pytest.mark.integration

DOCUMENT = Path(__file__).parents[3] / "docs" / "export.md"
WITHOUT_US = (
    "import sys\n"
    "class Absent:\n"
    "    def find_spec(self, name, path=None, target=None):\n"
    "        if name.partition('.')[0] in {absent}: raise ImportError(name)\n"
    "sys.meta_path.insert(0, Absent())\n"
)


def snippet(path: Path) -> str:
    """Return the first Python block of a page or card."""
    found = re.search(r"^```python\n(.*?)^```$", path.read_text(encoding="utf-8"), re.M | re.S)
    assert found is not None
    return found[1]


def run_alone(code: str, cwd: Path, absent: set[str]) -> list[str]:
    """Return the lines that code prints in a new process that cannot import some packages."""
    code = WITHOUT_US.format(absent=absent) + code
    command = [sys.executable, "-I", "-c", code]
    return subprocess.run(
        command, cwd=cwd, capture_output=True, text=True, check=True
    ).stdout.splitlines()


def turned_photo(path: Path) -> Path:
    """Write a wide photograph that its EXIF data turns upright."""
    exif = Image.Exif()
    exif[0x0112] = 6
    photo(171, 97).save(path, quality=95, exif=exif)
    return path


def transparent_photo(path: Path) -> Path:
    """Write a product on a transparent background, whose hidden colour is black."""
    cut_out = photo(171, 97).convert("RGBA")
    cut_out.paste((0, 0, 0, 0), (0, 0, 40, 97))
    cut_out.save(path, "PNG")
    return path


@pytest.mark.parametrize("to", MODEL_FORMATS)
def test_it_is_checked_and_described(
    to: str,
    exported_run: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "there" / "model"
    for _ in range(2):  # the second replaces the first
        code = _type(monkeypatch, "export", str(exported_run), "--to", to, "--out", str(out))
        printed = capsys.readouterr()
        assert code == 0, printed.err
        assert re.search(
            r"Checked against the original on 12 test images of the run: largest difference "
            r"[\d.e-]+ of a logit, [\d.e-]+ of a probability; the same class for 12\.",
            printed.out,
        )
        assert [path.name for path in out.parent.iterdir()] == ["model"]
    classifier = load_classifier(exported_run)
    about = json.loads((out / "preprocessing.json").read_text(encoding="utf-8"))
    assert about["classes"] == list(classifier.class_names)
    assert (about["resize_px"], about["crop_px"]) == (classifier.resize_px, classifier.size_px)
    assert classifier.resize_px > classifier.size_px  # both crops are tried by these tests
    card = (out / "README.md").read_text(encoding="utf-8")
    for part in ("dög mit Leerzeichen", "| top-1 |", "images: 24 train", "terms", "preprocessing"):
        assert part in card
    assert str(exported_run.parent) not in card + (out / "export.json").read_text()


def test_the_page_s_lines_run_without_this_package(exported_run: Path, tmp_path: Path) -> None:
    """onnxruntime, numpy and Pillow give the class and logits that `predict` gives."""
    export_model(exported_run, "onnx", tmp_path / "classifier-onnx")
    code = snippet(DOCUMENT)
    assert len(code.splitlines()) <= 19
    absent = {"gendataagent", "torch", "transformers", "onnx", "datasets"}
    for write in (turned_photo, transparent_photo):
        path = write(tmp_path / "photo.jpg")
        *_, name, logits = run_alone(code + "print(logits.tolist())", tmp_path, absent)
        _same_as_predicted(exported_run, path, name, logits)


def test_every_python_block_of_the_page_runs(
    exported_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    export_model(exported_run, "onnx", tmp_path / "classifier-onnx")
    turned_photo(tmp_path / "photo.jpg")
    shutil.copytree(exported_run, tmp_path / "runs" / "first")
    monkeypatch.chdir(tmp_path)
    text = DOCUMENT.read_text(encoding="utf-8")
    assert len(blocks_of(text)) == 2
    run_blocks(text, str(DOCUMENT))
    assert (tmp_path / "exports" / "fruit" / "labels.csv").is_file()


@pytest.mark.parametrize("to", ["onnx", "torchscript"])
def test_the_card_s_lines_run_without_this_package(
    to: str, exported_run: Path, tmp_path: Path
) -> None:
    export_model(exported_run, to, tmp_path / "model")
    path = turned_photo(tmp_path / "photo.jpg")
    code = snippet(tmp_path / "model" / "README.md").replace("FOLDER", "model")
    absent = {"gendataagent", "transformers"}
    *_, name, logits = run_alone(code + "print(logits.tolist())", tmp_path, absent)
    _same_as_predicted(exported_run, path, name, logits)


def _same_as_predicted(run: Path, path: Path, name: str, logits: str) -> None:
    classifier = load_classifier(run)
    (expected,) = predict_files(classifier, [path], top=99, on_unreadable=lambda *_: None)
    probabilities = torch.tensor(json.loads(logits)).softmax(0)
    assert expected.classes[0][0] == name
    for class_name, probability in expected.classes:
        found = float(probabilities[classifier.class_names.index(class_name)])
        assert found == pytest.approx(probability, abs=1e-5)


def test_transformers_loads_the_safetensors_folder(exported_run: Path, tmp_path: Path) -> None:
    from transformers import AutoModelForImageClassification

    export_model(exported_run, "safetensors", tmp_path / "model")
    model = AutoModelForImageClassification.from_pretrained(tmp_path / "model")
    names = load_classifier(exported_run).class_names
    assert tuple(model.config.id2label[i] for i in range(3)) == names
    own = (exported_run / "classifier" / "model.safetensors").read_bytes()
    assert (tmp_path / "model" / "model.safetensors").read_bytes() == own


def test_onnx_has_its_classes_inside(exported_run: Path, tmp_path: Path) -> None:
    import onnxruntime

    export_model(exported_run, "onnx", tmp_path / "model")
    session = onnxruntime.InferenceSession(str(tmp_path / "model" / "model.onnx"))
    inside = session.get_modelmeta().custom_metadata_map
    assert json.loads(inside["classes"]) == list(load_classifier(exported_run).class_names)
    beside = json.loads((tmp_path / "model" / "preprocessing.json").read_text(encoding="utf-8"))
    assert json.loads(inside["preprocessing"]) == beside


@pytest.mark.slow
@pytest.mark.parametrize("to", MODEL_FORMATS)
@pytest.mark.parametrize("name", [*STOCK, *ENCODERS])
def test_every_kind_of_classifier(name: str, to: str, tmp_path: Path) -> None:
    model, folder = tmp_path / "model", tmp_path / "out"
    (STOCK | ENCODERS)[name](model)
    classifier = trained(str(model))
    classifier.module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    folder.mkdir()
    form = MODEL_FORMATS[to]()
    form.write(classifier, folder)
    images = [photo(90, 70, seed) for seed in range(5)]
    pixels = Pixels.from_pil(images, [0] * 5, ids=list("abcde"), size_px=classifier.size_px)
    assert check_model(classifier, form.read(folder), pixels, "images").same_class == 5


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda logits_BC: logits_BC.flip(1), "is not the original, and was not kept"),
        (lambda logits_BC: logits_BC * float("nan"), "is not the original"),
        (lambda logits_BC: logits_BC[:, :2], "gives logits of shape"),
    ],
)
def test_a_model_that_computes_something_else_is_refused(
    wrong: Callable[[torch.Tensor], torch.Tensor], message: str
) -> None:
    classifier = trained("tiny-resnet")
    images = [photo(40, 40, seed) for seed in range(3)]
    pixels = Pixels.from_pil(images, [0] * 3, ids=list("abc"), size_px=classifier.size_px)

    def exported(images_B3SS: torch.Tensor) -> torch.Tensor:
        with classifier.inference(), torch.no_grad():
            return wrong(classifier.logits(images_B3SS))

    with pytest.raises(ModelError, match=message):
        check_model(classifier, exported, pixels, "images")


def test_a_refused_model_leaves_nothing(
    exported_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The message is the check's own, and an earlier export is unchanged."""
    out = tmp_path / "model"
    export_model(exported_run, "torchscript", out)
    before = (out / "model.pt").read_bytes()
    monkeypatch.setattr(
        "gendataagent.runs.exporting.models.check_model",
        lambda *_: (_ for _ in ()).throw(ModelError("another model")),
    )
    with pytest.raises(ModelError, match=r"^another model$"):
        export_model(exported_run, "torchscript", out)
    assert (out / "model.pt").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_stopped_anywhere_it_leaves_nothing(exported_run: Path, tmp_path: Path) -> None:
    counting = Interrupting()
    export_model(exported_run, "torchscript", tmp_path / "whole", progress=counting)
    for at in {1, 2, counting.events - 1, counting.events}:
        with pytest.raises(KeyboardInterrupt):
            export_model(exported_run, "torchscript", tmp_path / "model", progress=Interrupting(at))
        assert [path.name for path in tmp_path.iterdir()] == ["whole"]
    (tmp_path / ".model.4194305.tmp").mkdir()  # as kill -9 leaves it
    export_model(exported_run, "torchscript", tmp_path / "model")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model", "whole"]


def test_a_library_that_is_missing_is_named_with_its_command(
    exported_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ModelError, match=r"pip install onnx onnxscript onnxruntime "):
        export_model(exported_run, "onnx", tmp_path / "model")
    assert not list(tmp_path.iterdir())


def test_a_classifier_alone_is_checked_on_other_images(
    exported_run: Path, photo_folder: Path, tmp_path: Path
) -> None:
    alone = Path(shutil.copytree(exported_run / "classifier", tmp_path / "alone"))
    with pytest.raises(ConfigError, match=r"without its run.*--images"):
        export_model(alone, "torchscript", tmp_path / "model")
    found = export_model(
        alone, "torchscript", tmp_path / "model", images=photo_folder / "train" / "ship"
    )
    assert found.check.images == 8
    assert found.check.source == "images of ship"


def test_an_unknown_format_and_an_unfinished_run(exported_run: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--to onx: did you mean onnx"):
        export_model(exported_run, "onx", tmp_path / "model")
    stopped = Path(shutil.copytree(exported_run, tmp_path / "stopped"))
    shutil.rmtree(stopped / "classifier")
    with pytest.raises(RunFolderError, match="not finished; resume it"):
        export_model(stopped, "torchscript", tmp_path / "model")


def test_the_metrics_of_its_classifier_are_unchanged(exported_run: Path, tmp_path: Path) -> None:
    """The exporters leave the classifier they are given as it was."""
    classifier: Classifier = load_classifier(exported_run)
    before = {name: value.clone() for name, value in classifier.module.state_dict().items()}
    MODEL_FORMATS["torchscript"]().write(classifier, tmp_path)
    after = classifier.module.state_dict()
    assert all(torch.equal(after[name], value) for name, value in before.items())
