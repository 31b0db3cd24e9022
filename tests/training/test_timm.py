"""Networks of timm, where it is installed: `pip install 'gendataagent[timm]'`.

The weights are where the hub's library would have put them.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor

from gendataagent.config import ClassifierConfig
from gendataagent.core.errors import ModelError
from gendataagent.data.pixels import Pixels
from gendataagent.training.backbones import build_classifier, check_model
from gendataagent.training.classifier import Classifier
from gendataagent.training.saving import read_classifier, save_classifier

timm: Any = pytest.importorskip("timm")

NAMES = ("ant", "bee", "cat")
RN50 = "timm:resnet50_clip.openai"
VIT = "timm:vit_tiny_patch16_224"
RESNET = "timm:resnet10t.c3_in1k"
COMMIT = "c" * 40


def build(seed: int = 0, **settings: Any) -> Classifier:
    return build_classifier(ClassifierConfig(**settings), NAMES, seed=seed)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of the hub."""
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    return tmp_path


def publish(hub: Path, name: str, weights: dict[str, Tensor]) -> None:
    """Put weights where a download would have left them."""
    repository = timm.get_pretrained_cfg(name.removeprefix("timm:")).hf_hub_id
    place = hub / f"models--{repository.replace('/', '--')}"
    (place / "refs").mkdir(parents=True, exist_ok=True)
    (place / "refs" / "main").write_text(COMMIT)
    (place / "snapshots" / COMMIT).mkdir(parents=True, exist_ok=True)
    save_file(weights, place / "snapshots" / COMMIT / "model.safetensors")


def test_from_scratch_by_seed_with_the_colours_of_clip() -> None:
    first, second, other = (build(seed, model=RN50, pretrained=False) for seed in (0, 0, 1))
    weights, again = first.module.state_dict(), second.module.state_dict()
    assert all(torch.equal(weights[key], again[key]) for key in weights)
    assert not torch.equal(first.head().weight, other.head().weight)
    assert (first.size_px, first.head().in_features) == (224, 2048)
    assert first.mean == pytest.approx((0.48145466, 0.4578275, 0.40821073))
    assert first.std == pytest.approx((0.26862954, 0.26130258, 0.27577711))


def test_weights_are_kept_but_for_the_head(hub: Path) -> None:
    published = timm.create_model("vit_tiny_patch16_224").state_dict()
    publish(hub, VIT, published)
    check_model(ClassifierConfig(model=VIT))
    first, second = build(model=VIT), build(model=VIT)
    weights = first.module.state_dict()
    head = ("head.weight", "head.bias")
    assert all(torch.equal(weights[key], published[key]) for key in published if key not in head)
    assert weights["head.weight"].shape[0] == len(NAMES)
    assert torch.equal(first.head().weight, second.head().weight)
    assert first.mean == pytest.approx((0.5, 0.5, 0.5))


def test_a_vision_transformer_is_built_for_the_size_of_the_settings(hub: Path) -> None:
    publish(hub, VIT, timm.create_model("vit_tiny_patch16_224").state_dict())
    assert build(model=VIT, size_px=64).size_px == 64


def without(part: str) -> Callable[[dict[str, Tensor]], dict[str, Tensor]]:
    return lambda weights: {key: value for key, value in weights.items() if part not in key}


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (without("running_mean"), "Missing key.*conv1.1.running_mean"),
        (without("layer2.0.conv1"), "Missing key.*layer2.0.conv1.weight"),
        (without("fc"), "Missing key.*fc.weight"),
        (lambda weights: without("bn1.weight")(weights) | {"bn.weight": weights["bn1.weight"]},
         "Missing key.*bn1.weight"),
        (lambda weights: weights | {"fc.weight": weights["fc.weight"][:10]}, "size mismatch.*fc"),
        (lambda weights: weights | {"layer5.0.conv1.weight": torch.zeros(8)}, "layer5.0.conv1"),
        (lambda weights: weights | {"fc.bias": weights["fc.bias"].char()}, "holds integers"),
        (lambda weights: weights | {"fc.bias": weights["fc.bias"] + torch.nan}, "not finite"),
    ],
)  # fmt: skip
def test_weights_without_a_part_of_the_network_are_refused_when_checked(
    hub: Path, damage: Callable[[dict[str, Tensor]], dict[str, Tensor]], said: str
) -> None:
    """Nothing is trained then yet; the file and the tensor are named."""
    weights = timm.create_model("resnet10t").state_dict()
    publish(hub, RESNET, damage(weights))
    for look in (check_model, lambda config: build_classifier(config, NAMES, seed=0)):
        with pytest.raises(ModelError, match=said) as raised:
            look(ClassifierConfig(model=RESNET))
        assert "model.safetensors" in str(raised.value)


def test_only_the_counters_of_batch_norm_may_be_missing(hub: Path) -> None:
    weights = timm.create_model("resnet10t").state_dict()
    publish(hub, RESNET, without("num_batches_tracked")(weights))
    check_model(ClassifierConfig(model=RESNET))
    assert torch.equal(build(model=RESNET).module.state_dict()["conv1.0.weight"],
                       weights["conv1.0.weight"])  # fmt: skip


def test_truncated_weights_are_refused_when_checked(hub: Path) -> None:
    publish(hub, RESNET, timm.create_model("resnet10t").state_dict())
    (file,) = hub.rglob("model.safetensors")
    file.write_bytes(file.read_bytes()[:-8])
    with pytest.raises(
        ModelError, match=r"model\.safetensors.* bytes; .*hf download timm/resnet10t"
    ):
        check_model(ClassifierConfig(model=RESNET))


def test_an_unknown_name_is_reported_with_similar_ones(hub: Path) -> None:
    for name in ("timm:resnet50_clap", "timm:resnet50_clip.nope"):
        with pytest.raises(ModelError, match=r"has no resnet50_cl.*resnet50_clip\.openai"):
            check_model(ClassifierConfig(model=name))


def test_without_weights_and_network_the_download_is_named(hub: Path) -> None:
    for look in (check_model, lambda config: build_classifier(config, NAMES, seed=0)):
        with pytest.raises(ModelError, match=r"hf download timm/resnet50_clip\.openai"):
            look(ClassifierConfig(model=RN50))


@pytest.mark.parametrize("settings", [{"model": RN50}, {"model": VIT, "size_px": 96}])
def test_a_saved_network_loads_with_transformers(tmp_path: Path, settings: dict[str, Any]) -> None:
    from transformers import AutoImageProcessor, AutoModelForImageClassification

    classifier = build(pretrained=False, **settings)
    save_classifier(classifier, tmp_path / "saved", resize_px=classifier.size_px)
    image = Image.effect_noise((300, 300), 60).convert("RGB")
    pixels = Pixels.from_pil([image], [0], ids=["x"], size_px=classifier.size_px)
    ours = classifier.predict_logits(pixels)
    model = AutoModelForImageClassification.from_pretrained(tmp_path / "saved")
    assert model.config.id2label == dict(enumerate(NAMES))
    processor = AutoImageProcessor.from_pretrained(tmp_path / "saved", backend="pil")
    with torch.no_grad():
        theirs = model(**processor(image, return_tensors="pt")).logits
    torch.testing.assert_close(theirs, ours, atol=1e-4, rtol=1e-4)
    again = read_classifier(tmp_path / "saved")
    assert (again.class_names, again.size_px) == (NAMES, classifier.size_px)
    torch.testing.assert_close(again.predict_logits(pixels), ours)
