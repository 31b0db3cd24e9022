from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from gendataagent.classifier import Classifier, build_classifier
from gendataagent.config import ClassifierConfig
from gendataagent.errors import DataError, ModelError, ScoreError
from gendataagent.pixels import Pixels

MakePixels = Callable[..., Pixels]
NAMES = ("ant", "bee", "gold fish", "ñandú")


def test_pictures_are_normalised_per_channel() -> None:
    module = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
    classifier = Classifier.wrap(
        module, class_names=("a", "b", "c"), size_px=2, mean=(0.5, 0.25, 0), std=(0.5, 0.25, 2)
    )
    assert classifier.logits(torch.ones((1, 3, 2, 2))).tolist() == [[1.0, 3.0, 0.5]]


def test_an_output_with_logits_is_accepted() -> None:
    class Wrapped(nn.Module):
        def forward(self, images: Tensor) -> Any:
            return SimpleNamespace(logits=images.mean(dim=(2, 3)))

    classifier = Classifier.wrap(
        Wrapped(), class_names=("a", "b", "c"), size_px=2, mean=(0, 0, 0), std=(1, 1, 1)
    )
    assert classifier.logits(torch.ones((2, 3, 2, 2))).shape == (2, 3)


def test_a_head_of_another_width_is_refused(classifier: Classifier) -> None:
    narrow = Classifier.wrap(classifier.module, class_names=("a", "b"), size_px=8)
    with pytest.raises(ModelError, match=r"\(1, 3\), expected \(1, 2\)"):
        narrow.logits(torch.zeros((1, 3, 8, 8)))


def test_probabilities_are_those_of_eval_mode_at_any_batch_size(
    classifier: Classifier, make_pixels: MakePixels
) -> None:
    pixels = make_pixels(11)
    probabilities = classifier.predict_probabilities(pixels, batch_size=4)
    classifier.module.eval()
    with torch.no_grad():
        logits = classifier.logits(pixels.batch(torch.arange(11)).float() / 255)
    torch.testing.assert_close(probabilities, logits.softmax(dim=1), atol=1e-6, rtol=0)
    torch.testing.assert_close(
        probabilities, classifier.predict_probabilities(pixels, batch_size=256), atol=1e-6, rtol=0
    )


def test_larger_pictures_are_cropped_to_their_centre(
    classifier: Classifier, make_pixels: MakePixels
) -> None:
    large = make_pixels(4, side=10)
    small = Pixels(
        large.batch(torch.arange(4), crop_px=8).__getitem__, large.labels, ids=large.ids, size_px=8
    )
    assert torch.equal(classifier.predict_logits(large), classifier.predict_logits(small))


def test_features_are_what_the_head_sees(classifier: Classifier, make_pixels: MakePixels) -> None:
    pixels = make_pixels(5)
    features = classifier.features(pixels, batch_size=2)
    assert features.shape == (5, 24)
    head = classifier.head()
    torch.testing.assert_close(
        features @ head.weight.T.detach() + head.bias.detach(), classifier.predict_logits(pixels)
    )
    assert not head._forward_pre_hooks


def test_features_need_a_linear_layer(make_pixels: MakePixels) -> None:
    module = nn.Sequential(nn.Conv2d(3, 3, 8), nn.Flatten())
    classifier = Classifier.wrap(module, class_names=("a", "b", "c"), size_px=8)
    with pytest.raises(ModelError, match="no linear layer"):
        classifier.features(make_pixels(2))


def test_an_empty_set_gives_empty_results(classifier: Classifier) -> None:
    empty = Pixels(torch.empty((0, 3, 8, 8)).__getitem__, [], ids=[], size_px=8)
    assert classifier.predict_probabilities(empty).shape == (0, 3)
    assert classifier.features(empty).shape == (0, 24)


def test_inference_restores_modes_and_frozen_parameters(classifier: Classifier) -> None:
    module = classifier.module
    module.train()
    parts = list(module.modules())
    parts[2].eval()
    first = next(module.parameters())
    first.requires_grad_(False)
    modes = [part.training for part in parts]
    frozen = [parameter.requires_grad for parameter in module.parameters()]

    def fail() -> None:
        with classifier.inference():
            assert not any(part.training for part in parts)
            assert not any(parameter.requires_grad for parameter in module.parameters())
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert [part.training for part in parts] == modes
    assert [parameter.requires_grad for parameter in module.parameters()] == frozen


def test_scoring_changes_no_weights(
    classifier: Classifier,
    make_pixels: MakePixels,
    snapshot: Callable[[Classifier], dict[str, Tensor]],
) -> None:
    classifier.module.train()
    before = snapshot(classifier)
    classifier.predict_probabilities(make_pixels(9))
    classifier.features(make_pixels(9))
    after = classifier.module.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_not_finite_output_names_the_pictures(
    classifier: Classifier, make_pixels: MakePixels
) -> None:
    classifier.head().bias.data[1] = float("inf")
    with pytest.raises(ScoreError, match=r"7 of 7 pictures \(p0, p1, p2, p3, p4 and 2 more\)"):
        classifier.predict_probabilities(make_pixels(7))


def test_a_label_without_a_class_is_refused(
    classifier: Classifier, make_pixels: MakePixels
) -> None:
    pixels = make_pixels(4)
    pixels.labels[2] = -1
    with pytest.raises(DataError, match="p2 has label -1, but there are 3 classes"):
        classifier.predict_logits(pixels)


def tiny(seed: int = 0, **settings: Any) -> Classifier:
    return build_classifier(ClassifierConfig(**settings), NAMES, seed=seed)


def test_tiny_resnet_fits_32_px_and_is_seeded_whatever_ran_before() -> None:
    torch.manual_seed(1)
    first = tiny()
    torch.manual_seed(2)
    state = torch.get_rng_state()
    second, other = tiny(), tiny(seed=1)
    assert torch.equal(state, torch.get_rng_state())
    weights, again = first.module.state_dict(), second.module.state_dict()
    assert all(torch.equal(weights[name], again[name]) for name in weights)
    assert not torch.equal(first.head().weight, other.head().weight)
    assert (first.size_px, first.class_names) == (32, NAMES)
    assert 0.3e6 < sum(parameter.numel() for parameter in first.module.parameters()) < 3e6


def test_auto_takes_tiny_resnet_without_a_gpu() -> None:
    large = build_classifier(ClassifierConfig(), NAMES, seed=0, typical_side_px=500)
    assert large.size_px == 32


def save_vit(folder: Path, *, classes: int = 7) -> nn.Module:
    from transformers import ViTConfig, ViTForImageClassification

    config = ViTConfig(
        hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32,
        image_size=16, patch_size=8, num_labels=classes,
    )  # fmt: skip
    model = ViTForImageClassification(config)
    model.save_pretrained(folder)
    assert isinstance(model, nn.Module)
    return model


def save_convnext(folder: Path) -> nn.Module:
    from transformers import ConvNextConfig, ConvNextForImageClassification

    config = ConvNextConfig(
        num_stages=2, hidden_sizes=[8, 16], depths=[1, 1], patch_size=2, num_labels=7
    )
    model = ConvNextForImageClassification(config)
    model.save_pretrained(folder)
    assert isinstance(model, nn.Module)
    return model


@pytest.mark.parametrize(("save", "size_px"), [(save_vit, 16), (save_convnext, 224)])
def test_a_model_on_disk_gets_a_new_head_and_keeps_the_rest(
    tmp_path: Path, save: Callable[[Path], nn.Module], size_px: int
) -> None:
    saved = save(tmp_path).state_dict()
    loaded = tiny(model=str(tmp_path))
    weights = loaded.module.state_dict()
    head = ("classifier.weight", "classifier.bias")
    assert weights.keys() == saved.keys()
    assert all(torch.equal(weights[name], saved[name]) for name in saved if name not in head)
    assert weights["classifier.weight"].shape[0] == len(NAMES)
    assert torch.equal(weights["classifier.weight"], tiny(model=str(tmp_path)).head().weight)
    assert loaded.size_px == size_px
    assert loaded.mean == pytest.approx((0.485, 0.456, 0.406))
    config: Any = loaded.module.config
    assert list(config.id2label.values()) == list(NAMES)


def test_a_head_of_the_same_width_is_kept(tmp_path: Path) -> None:
    saved = save_vit(tmp_path, classes=len(NAMES)).state_dict()
    assert torch.equal(tiny(model=str(tmp_path)).head().weight, saved["classifier.weight"])


def test_from_scratch_ignores_the_weights_on_disk(tmp_path: Path) -> None:
    saved = save_vit(tmp_path).state_dict()
    key = "vit.embeddings.patch_embeddings.projection.weight"
    first, second, other = (
        tiny(seed, model=str(tmp_path), pretrained=False).module.state_dict()[key]
        for seed in (0, 0, 1)
    )
    assert torch.equal(first, second)
    assert not torch.equal(first, other)
    assert not torch.equal(first, saved[key])


def test_colour_statistics_come_from_the_preprocessor(tmp_path: Path) -> None:
    save_vit(tmp_path)
    (tmp_path / "preprocessor_config.json").write_text(
        '{"image_mean": [0.1, 0.2, 0.3], "image_std": [0.4, 0.5, 0.6]}'
    )
    loaded = tiny(model=str(tmp_path))
    assert (loaded.mean, loaded.std) == ((0.1, 0.2, 0.3), (0.4, 0.5, 0.6))
    (tmp_path / "preprocessor_config.json").write_text('{"do_normalize": false}')
    loaded = tiny(model=str(tmp_path))
    assert (loaded.mean, loaded.std) == ((0, 0, 0), (1, 1, 1))


def test_a_size_the_model_was_not_made_for_is_refused(tmp_path: Path) -> None:
    save_vit(tmp_path)
    with pytest.raises(ModelError, match=r"cannot take pictures of 24 px.*classifier\.size_px"):
        tiny(model=str(tmp_path), size_px=24)


def test_a_wrong_path_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"there is no folder .*nowhere"):
        tiny(model=str(tmp_path / "nowhere"))


@pytest.mark.parametrize("damage", ["no weights", "cut weights", "no config", "bad config"])
def test_a_half_downloaded_folder_is_explained(tmp_path: Path, damage: str) -> None:
    save_vit(tmp_path)
    weights, config = tmp_path / "model.safetensors", tmp_path / "config.json"
    if damage == "no weights":
        weights.unlink()
    elif damage == "cut weights":
        weights.write_bytes(weights.read_bytes()[:-100])
    elif damage == "no config":
        config.unlink()
    else:
        config.write_text('{"model_type": "v')
    with pytest.raises(ModelError, match="cannot load an image classifier from the folder"):
        tiny(model=str(tmp_path))


def test_weights_without_the_backbone_are_refused(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    save_vit(tmp_path)
    path = tmp_path / "model.safetensors"
    kept = {name: value for name, value in load_file(path).items() if "layer.1" not in name}
    save_file(kept, path, metadata={"format": "pt"})
    with pytest.raises(ModelError, match=r"lack \d+ of \d+ parameters"):
        tiny(model=str(tmp_path))


def test_pickled_weights_are_never_read(tmp_path: Path) -> None:
    model = save_vit(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    torch.save(model.state_dict(), tmp_path / "pytorch_model.bin")
    with pytest.raises(ModelError, match="safetensors"):
        tiny(model=str(tmp_path))


def test_a_hub_id_without_a_network_is_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(ModelError, match=r"nobody/no-such-model.*tiny-resnet"):
        tiny(model="nobody/no-such-model")


def test_a_folder_that_holds_something_else_is_refused(tmp_path: Path) -> None:
    shutil.copy(__file__, tmp_path / "notes.txt")
    with pytest.raises(ModelError, match=r"config\.json"):
        tiny(model=str(tmp_path))
