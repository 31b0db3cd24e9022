"""A saved classifier loads with plain transformers and computes what our evaluation computes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from gendataagent.config import ClassifierConfig
from gendataagent.core.errors import ModelError, RunFolderError, StorageError
from gendataagent.data.pixels import Pixels
from gendataagent.training.backbones import build_classifier
from gendataagent.training.classifier import Classifier
from gendataagent.training.saving import read_classifier, save_classifier
from tests.tiny_captioners import skip_without_torchvision
from tests.training.test_backbones import (
    NAMES,
    OWN_CODE,
    save_clip_encoder,
    save_convnext,
    save_vit,
    save_whole_clip,
    save_whole_siglip,
)

SHAPES = [
    (32, 32), (64, 64), (500, 375), (333, 500), (101, 57), (31, 47), (1000, 201), (17, 90),
    (281, 539), (250, 17),
]  # fmt: skip


def save_resnet(folder: Path) -> None:
    from transformers import ResNetConfig, ResNetForImageClassification

    config = ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], num_labels=7)
    ResNetForImageClassification(config).save_pretrained(folder)


def use_tiny_resnet(folder: Path) -> None:
    """Nothing is saved: the bundled classifier is known by name."""


STOCK: dict[str, Any] = {
    "tiny-resnet": use_tiny_resnet,
    "vit": save_vit,
    "convnext": save_convnext,
    "resnet": save_resnet,
}
ENCODERS: dict[str, Any] = {
    "clip": save_whole_clip,
    "clip encoder": save_clip_encoder,
    "siglip": save_whole_siglip,
}


def photo(width: int, height: int, seed: int = 0) -> Image.Image:
    """An image with structure at every scale."""
    random = np.random.default_rng(seed)
    coarse = random.integers(0, 256, (height // 8 + 2, width // 8 + 2, 3), dtype=np.uint8)
    smooth = np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC))
    noise = random.integers(-15, 16, smooth.shape)
    return Image.fromarray((smooth + noise).clip(0, 255).astype(np.uint8))


def trained(model: str, size_px: int = 0) -> Classifier:
    """A classifier whose normalisation statistics, weights and colours are no defaults."""
    config = ClassifierConfig(
        model=model if Path(model).exists() else "tiny-resnet", size_px=size_px
    )
    classifier = build_classifier(config, NAMES, seed=0)
    classifier = Classifier(
        classifier.module,
        class_names=NAMES,
        size_px=classifier.size_px,
        mean=(0.4, 0.5, 0.6),
        std=(0.2, 0.25, 0.3),
    )
    side = classifier.size_px
    images = torch.rand((4, 3, side, side), generator=torch.Generator().manual_seed(1))
    classifier.module.train()
    with torch.no_grad():
        for parameter in classifier.module.parameters():
            parameter.mul_(1.01)
        for _ in range(30):  # so that the running statistics are those of such images
            classifier.logits(images)
    return classifier


def our_logits(classifier: Classifier, images: list[Image.Image], resize_px: int) -> Tensor:
    ids = [str(index) for index in range(len(images))]
    pixels = Pixels.from_pil(images, [0] * len(ids), ids=ids, size_px=resize_px)
    return classifier.predict_logits(pixels)


def plain_logits(folder: Path, images: list[Image.Image], **options: Any) -> Tensor:
    """The logits that someone without our package gets."""
    from transformers import AutoModelForImageClassification
    from transformers.models.auto.image_processing_auto import AutoImageProcessor

    model = AutoModelForImageClassification.from_pretrained(folder, **options)
    processor = AutoImageProcessor.from_pretrained(folder, backend="pil")
    assert not model.training
    assert model.config.id2label == dict(enumerate(NAMES))
    assert model.config.label2id == {name: label for label, name in enumerate(NAMES)}
    with torch.no_grad():
        rows = [model(**processor(image, return_tensors="pt")).logits for image in images]
    logits_NC = torch.cat(rows)
    assert isinstance(logits_NC, Tensor)
    return logits_NC


@pytest.mark.parametrize("margin", [0, 6])
@pytest.mark.parametrize("kind", STOCK)
def test_transformers_alone_computes_the_logits_of_our_evaluation(
    kind: str, margin: int, tmp_path: Path
) -> None:
    STOCK[kind](tmp_path / "model")
    classifier = trained(str(tmp_path / "model"))
    resize_px = classifier.size_px + margin
    save_classifier(classifier, tmp_path / "saved", resize_px=resize_px)
    images = [photo(*shape) for shape in SHAPES]
    ours = our_logits(classifier, images, resize_px)
    torch.testing.assert_close(plain_logits(tmp_path / "saved", images), ours, atol=1e-4, rtol=1e-4)
    assert (ours[0] - ours[1]).abs().max() > 1e-3


@pytest.mark.parametrize("size_px", [0, 32])
@pytest.mark.parametrize("kind", ENCODERS)
def test_an_encoder_with_a_head_brings_its_own_code(
    kind: str, size_px: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ENCODERS[kind](tmp_path / "model")
    classifier = trained(str(tmp_path / "model"), size_px)
    save_classifier(classifier, tmp_path / "saved", resize_px=classifier.size_px)
    images = [photo(*shape) for shape in SHAPES]
    ours = our_logits(classifier, images, classifier.size_px)
    monkeypatch.setattr(
        "transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "modules")
    )
    theirs = plain_logits(tmp_path / "saved", images, trust_remote_code=True)
    torch.testing.assert_close(theirs, ours, atol=1e-4, rtol=1e-4)
    assert "trust_remote_code=True" in (tmp_path / "saved" / "README.md").read_text()
    again = read_classifier(tmp_path / "saved")  # no code of the folder is run
    assert type(again.module).__module__.startswith("gendataagent.")
    assert torch.equal(our_logits(again, images, again.resize_px), ours)


@pytest.mark.parametrize("kind", STOCK)
def test_a_saved_classifier_is_read_back_to_the_bit(kind: str, tmp_path: Path) -> None:
    STOCK[kind](tmp_path / "model")
    classifier = trained(str(tmp_path / "model"))
    save_classifier(classifier, tmp_path / "saved", resize_px=classifier.size_px + 8)
    assert classifier.module.training  # left as found
    again = read_classifier(tmp_path / "saved")
    before, after = classifier.module.state_dict(), again.module.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert again.class_names == NAMES
    assert (again.size_px, again.resize_px) == (classifier.size_px, classifier.size_px + 8)
    assert (again.mean, again.std) == (classifier.mean, classifier.std)
    assert not any(part.training for part in again.module.modules())


def test_memory_format_survives(tmp_path: Path) -> None:
    save_resnet(tmp_path / "model")
    classifier = trained(str(tmp_path / "model"))
    save_classifier(classifier, tmp_path / "plain", resize_px=classifier.size_px)
    classifier.module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    save_classifier(classifier, tmp_path / "last", resize_px=classifier.size_px)

    def kernel(name: str) -> Tensor:
        module = read_classifier(tmp_path / name).module
        found = next(part for part in module.modules() if isinstance(part, nn.Conv2d))
        return found.weight

    assert kernel("plain").is_contiguous()
    assert not kernel("last").is_contiguous()
    assert torch.equal(kernel("plain"), kernel("last"))


@pytest.mark.integration
def test_the_two_lines_of_its_readme_work_without_our_package(tmp_path: Path) -> None:
    skip_without_torchvision()
    save_vit(tmp_path / "model")
    classifier = trained(str(tmp_path / "model"))
    folder = tmp_path / "saved"
    save_classifier(classifier, folder, resize_px=classifier.size_px)
    code = (folder / "README.md").read_text().split("```")[1].removeprefix("python")
    code = code.replace("path/to/this/folder", str(folder))
    script = (
        "import sys, torch\nfrom PIL import Image\n"
        f"image = Image.new('RGB', (40, 40), (200, 30, 90))\n{code}\n"
        "assert not [name for name in sys.modules if name.startswith('gendataagent')]\n"
        "print(logits.tolist())"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], env={**os.environ, "PYTHONPATH": ""},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert "arning" not in done.stderr
    assert "rror" not in done.stderr
    ours = our_logits(classifier, [Image.new("RGB", (40, 40), (200, 30, 90))], classifier.size_px)
    torch.testing.assert_close(torch.tensor(json.loads(done.stdout)), ours, atol=1e-5, rtol=1e-5)


def test_what_was_saved_before_is_replaced_as_a_whole(tmp_path: Path) -> None:
    save_vit(tmp_path / "model")
    classifier = trained(str(tmp_path / "model"))
    folder = tmp_path / "run" / "classifier"
    save_classifier(classifier, folder, resize_px=16)
    (folder / "stale").touch()
    (tmp_path / "run" / ".classifier.4194305.tmp").mkdir()  # of a killed process
    save_classifier(classifier, folder, resize_px=16)
    assert sorted(path.name for path in folder.iterdir()) == [
        "README.md", "config.json", "model.safetensors", "preprocessor_config.json",
    ]  # fmt: skip
    assert list((tmp_path / "run").iterdir()) == [folder]


@pytest.mark.parametrize(
    "error", [SafetensorError("No space left"), OSError(28, "No space left on device")]
)
def test_a_full_disk_leaves_what_was_there(
    error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_vit(tmp_path / "model")
    classifier = trained(str(tmp_path / "model"))
    folder = tmp_path / "run" / "classifier"
    save_classifier(classifier, folder, resize_px=16)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}

    def full(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(classifier.module, "save_pretrained", full)
    with pytest.raises(StorageError, match=r"cannot write .*classifier.*No space left"):
        save_classifier(classifier, folder, resize_px=16)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert list((tmp_path / "run").iterdir()) == [folder]


@pytest.mark.parametrize("damage", ["cut", "gone", "norm", "running_mean", "no json", "nan"])
def test_damaged_files_are_named(damage: str, tmp_path: Path) -> None:
    (save_resnet if damage == "running_mean" else save_vit)(tmp_path / "model")
    folder = tmp_path / "saved"
    save_classifier(trained(str(tmp_path / "model")), folder, resize_px=16)
    weights = folder / "model.safetensors"
    if damage == "cut":
        weights.write_bytes(weights.read_bytes()[:-50])
    elif damage == "gone":
        weights.unlink()
    elif damage == "no json":
        (folder / "config.json").write_text("{")
    elif damage == "nan":
        tensors = load_file(weights)
        next(iter(tensors.values())).view(-1)[0] = float("nan")
        save_file(tensors, weights, metadata={"format": "pt"})
    else:
        kept = {key: value for key, value in load_file(weights).items() if damage not in key}
        save_file(kept, weights, metadata={"format": "pt"})
    with pytest.raises(RunFolderError, match=r"cannot (load|read) .*saved"):
        read_classifier(folder)


KINDS: list[Any] = ["x", True, ["a", "b", "c"], [0.5, 0.5], {"a": 1}]
VALUES: list[tuple[str, str, list[Any]]] = [
    ("config.json", "architectures", [1, True, 1.5]),
    ("config.json", "id2label", ["x", 1, [], [1], True]),
    ("config.json", "hidden_size", [None, "x", -1, [], {}, 10**9]),
    ("config.json", "model_type", [[], {}, "no such", 1]),
    ("preprocessor_config.json", "image_mean", KINDS),
    ("preprocessor_config.json", "image_std", [*KINDS, [0, 1, 1], -1]),
    ("preprocessor_config.json", "rescale_factor", ["x", [1], -1]),
    ("preprocessor_config.json", "crop_size", [10**9]),
]
NO_OBJECT: list[Any] = [[], "x", 1]
WRONG: list[tuple[str, Any]] = [
    *((name, {key: value}) for name, key, values in VALUES for value in values),
    *(("config.json", value) for value in NO_OBJECT),
    *(("preprocessor_config.json", value) for value in NO_OBJECT),
]


def test_settings_of_a_stranger_s_classifier_are_a_sentence(tmp_path: Path) -> None:
    save_vit(tmp_path / "model")
    folder = tmp_path / "saved"
    save_classifier(trained(str(tmp_path / "model")), folder, resize_px=16)
    accepted = []
    for name, change in WRONG:
        path = folder / name
        before = path.read_text(encoding="utf-8")
        whole = {**json.loads(before), **change} if isinstance(change, dict) else change
        path.write_text(json.dumps(whole), encoding="utf-8")
        try:
            read_classifier(folder)
            accepted.append((name, change))
        except RunFolderError as error:
            assert str(folder) in str(error)  # noqa: PT017
        path.write_text(before, encoding="utf-8")
    assert [
        one for one in accepted if one != ("preprocessor_config.json", {"image_std": [1]})
    ] == []
    read_classifier(folder)


def test_a_network_of_another_kind_cannot_be_saved(tmp_path: Path) -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(12, 4))
    classifier = Classifier.wrap(network, class_names=NAMES, size_px=2)
    with pytest.raises(ModelError, match=r"Sequential is neither.*transformers nor of timm"):
        save_classifier(classifier, tmp_path / "saved", resize_px=2)
    assert not (tmp_path / "saved").exists()


def test_code_of_a_user_s_model_is_saved_with_it_and_runs_only_when_allowed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "mine"
    save_vit(folder)
    (folder / "own_code.py").write_text(OWN_CODE)
    config = json.loads((folder / "config.json").read_text())
    config["model_type"] = "vit-of-mine"
    config["auto_map"] = {
        "AutoConfig": "own_code.MyConfig",
        "AutoModelForImageClassification": "own_code.MyModel",
    }
    (folder / "config.json").write_text(json.dumps(config))
    monkeypatch.setattr(
        "transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "modules")
    )
    settings = ClassifierConfig(model=str(folder))
    classifier = build_classifier(settings, NAMES, seed=0, trust_remote_code=True)
    save_classifier(classifier, tmp_path / "saved", resize_px=16)
    assert (tmp_path / "saved" / "own_code.py").is_file()
    with pytest.raises(RunFolderError, match="trust_remote_code"):
        read_classifier(tmp_path / "saved")
    again = read_classifier(tmp_path / "saved", trust_remote_code=True)
    assert type(again.module).__name__ == "MyModel"
    assert torch.equal(again.head().weight, classifier.head().weight)
