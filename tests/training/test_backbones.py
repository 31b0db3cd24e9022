"""Classifiers from names: tiny real models, saved to disk and loaded as a user's are."""

from __future__ import annotations

import json
import shutil
import sys
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from gendataagent.config import ClassifierConfig
from gendataagent.core.errors import ModelError, RunFolderError
from gendataagent.training.backbones import build_classifier, check_model
from gendataagent.training.backbones.head import fit_head
from gendataagent.training.classifier import Classifier
from gendataagent.training.saving import read_classifier

NAMES = ("ant", "bee", "gold fish", "ñandú")


def tiny(seed: int = 0, **settings: Any) -> Classifier:
    """Return a classifier whose files also pass the check, without a warning."""
    config = ClassifierConfig(**settings)
    classifier = build_classifier(config, NAMES, seed=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        check_model(config)
    return classifier


def build(config: ClassifierConfig) -> Classifier:
    return build_classifier(config, NAMES, seed=0)


def test_tiny_resnet_takes_64_px_and_depends_on_the_seed_alone() -> None:
    torch.manual_seed(1)
    first = tiny()
    torch.manual_seed(2)
    state = torch.get_rng_state()
    second, other = tiny(), tiny(seed=1)
    assert torch.equal(state, torch.get_rng_state())
    weights, again = first.module.state_dict(), second.module.state_dict()
    assert all(torch.equal(weights[name], again[name]) for name in weights)
    assert not torch.equal(first.head().weight, other.head().weight)
    assert (first.size_px, first.class_names) == (64, NAMES)
    assert 0.3e6 < sum(parameter.numel() for parameter in first.module.parameters()) < 3e6


def test_auto_takes_tiny_resnet_without_a_gpu() -> None:
    large = build_classifier(ClassifierConfig(), NAMES, seed=0, typical_side_px=500)
    assert large.size_px == 64


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


def test_a_size_the_model_does_not_support_is_refused(tmp_path: Path) -> None:
    save_vit(tmp_path)
    with pytest.raises(ModelError, match=r"cannot take images of 24 px.*classifier\.size_px"):
        tiny(model=str(tmp_path), size_px=24)


def test_a_wrong_path_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"there is no folder .*nowhere"):
        tiny(model=str(tmp_path / "nowhere"))


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        ("no weights", "has no safetensors weights"),
        ("cut weights", r"has \d+ of \d+ bytes; download it again"),
        ("no config", r"has no config\.json"),
        ("bad config", r"config\.json cannot be read"),
    ],
)
@pytest.mark.parametrize("look", [check_model, build], ids=["checked", "built"])
def test_a_half_downloaded_folder_is_explained(
    tmp_path: Path, damage: str, said: str, look: Callable[[ClassifierConfig], object]
) -> None:
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
    with pytest.raises(ModelError, match=rf"classifier\.model: the folder .*{said}"):
        look(ClassifierConfig(model=str(tmp_path)))


def test_weights_without_the_backbone_are_refused(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    save_vit(tmp_path)
    path = tmp_path / "model.safetensors"
    kept = {name: value for name, value in load_file(path).items() if "layer.1" not in name}
    save_file(kept, path, metadata={"format": "pt"})
    with pytest.raises(
        ModelError, match=r"\d+ of the \d+ tensors of a ViTForImageClassification are missing"
    ):
        tiny(model=str(tmp_path))


@pytest.mark.parametrize("look", [check_model, build], ids=["checked", "built"])
@pytest.mark.parametrize("ending", ["running_mean", "running_var", "misshapen"])
def test_a_classifier_without_statistics_of_batchnorm_is_refused(
    ending: str, look: Callable[[ClassifierConfig], object], tmp_path: Path
) -> None:
    from safetensors.torch import load_file, save_file
    from transformers import ResNetConfig, ResNetForImageClassification

    config = ResNetConfig(embedding_size=8, hidden_sizes=[8], depths=[1], layer_type="basic")
    ResNetForImageClassification(config).save_pretrained(tmp_path)
    path = tmp_path / "model.safetensors"
    kept = {name: value for name, value in load_file(path).items() if not name.endswith(ending)}
    said = rf"3 of the \d+ tensors of a ResNetFor.* missing \(.*{ending}"
    if ending == "misshapen":
        name = "resnet.embedder.embedder.normalization.running_var"
        kept[name] = torch.ones(9)
        said = rf"{name} has shape \[9\], but a ResNetFor.* by its configuration has \[8\]"
    save_file(kept, path, metadata={"format": "pt"})
    with pytest.raises(ModelError, match=said):
        look(ClassifierConfig(model=str(tmp_path), size_px=32))


def test_a_model_of_another_kind_is_refused_before_it_is_loaded(tmp_path: Path) -> None:
    from tests.tiny_language import save_tiny_llama

    with pytest.raises(ModelError, match="of type 'llama', not an image classifier or CLIP"):
        check_model(ClassifierConfig(model=str(save_tiny_llama(tmp_path))))


def test_pickled_weights_are_never_read(tmp_path: Path) -> None:
    model = save_vit(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    torch.save(model.state_dict(), tmp_path / "pytorch_model.bin")
    with pytest.raises(ModelError, match="safetensors"):
        tiny(model=str(tmp_path))


@pytest.mark.parametrize("look", [check_model, build], ids=["checked", "built"])
def test_a_hub_id_without_a_network_is_explained(
    look: Callable[[ClassifierConfig], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    config = ClassifierConfig(model="nobody/no-such-model", revision="v1")
    said = r"nobody/no-such-model.*at revision 'v1'.*hub cannot be reached.*tiny-resnet"
    with pytest.raises(ModelError, match=said):
        look(config)


def test_models_without_files_pass_the_check() -> None:
    check_model(ClassifierConfig())
    check_model(ClassifierConfig(model="tiny-resnet"))


def test_a_folder_that_holds_something_else_is_refused(tmp_path: Path) -> None:
    shutil.copy(__file__, tmp_path / "notes.txt")
    with pytest.raises(ModelError, match=r"config\.json"):
        tiny(model=str(tmp_path))


def test_from_scratch_a_configuration_is_enough(tmp_path: Path) -> None:
    save_vit(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    config = ClassifierConfig(model=str(tmp_path), pretrained=False)
    check_model(config)
    assert build_classifier(config, NAMES, seed=0).size_px == 16
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ModelError, match=r"classifier\.model: cannot load"):
        check_model(config)


VISION = {
    "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32,
    "image_size": 16, "patch_size": 8,
}  # fmt: skip
TEXT = {
    "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32,
    "vocab_size": 50, "max_position_embeddings": 8,
}  # fmt: skip


def save_whole_clip(folder: Path) -> nn.Module:
    from transformers import CLIPConfig, CLIPModel

    model = CLIPModel(CLIPConfig(vision_config=VISION, text_config=TEXT, projection_dim=8))
    model.save_pretrained(folder)
    vision = model.vision_model
    assert isinstance(vision, nn.Module)
    return vision


def save_clip_encoder(folder: Path) -> nn.Module:
    from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

    model = CLIPVisionModelWithProjection(CLIPVisionConfig(**VISION, projection_dim=8))
    model.save_pretrained(folder)
    vision = model.vision_model
    assert isinstance(vision, nn.Module)
    return vision


def save_whole_siglip(folder: Path) -> nn.Module:
    from transformers import SiglipConfig, SiglipModel

    model = SiglipModel(SiglipConfig(vision_config=VISION, text_config=TEXT))
    model.save_pretrained(folder)
    vision = model.vision_model
    assert isinstance(vision, nn.Module)
    return vision


CLIP_MEAN, HALF = (0.48145466, 0.4578275, 0.40821073), (0.5, 0.5, 0.5)


@pytest.mark.parametrize(
    ("save", "mean"),
    [(save_whole_clip, CLIP_MEAN), (save_clip_encoder, CLIP_MEAN), (save_whole_siglip, HALF)],
)
def test_an_image_encoder_gets_a_head_on_its_pooled_output(
    tmp_path: Path, save: Callable[[Path], nn.Module], mean: tuple[float, ...]
) -> None:
    encoder: Any = save(tmp_path).eval()
    loaded = tiny(model=str(tmp_path))
    assert loaded.size_px == 16
    assert loaded.mean == pytest.approx(mean)
    images = torch.rand((3, 3, 16, 16), generator=torch.Generator().manual_seed(0))
    head = loaded.head()
    with loaded.inference(), torch.no_grad():
        pooled = encoder(loaded.normalise(images)).pooler_output
        torch.testing.assert_close(loaded.logits(images), head(pooled))
    assert torch.equal(head.weight, tiny(model=str(tmp_path)).head().weight)
    assert not torch.equal(head.weight, tiny(1, model=str(tmp_path)).head().weight)
    own, saved = loaded.module.state_dict(), encoder.state_dict()
    assert {"head.weight", "head.bias"} == own.keys() - {f"encoder.{key}" for key in saved}


def test_an_encoder_takes_other_sizes_too(tmp_path: Path) -> None:
    save_whole_clip(tmp_path)
    assert tiny(model=str(tmp_path), size_px=32).size_px == 32


def test_an_encoder_from_scratch_is_seeded(tmp_path: Path) -> None:
    encoder = save_whole_clip(tmp_path)
    first, second, other = (
        tiny(seed, model=str(tmp_path), pretrained=False).module.state_dict() for seed in (0, 0, 1)
    )
    key = "encoder.layers.0.mlp.fc1.weight"
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not torch.equal(first[f"encoder.{key}"], other[f"encoder.{key}"])
    assert not torch.equal(first[f"encoder.{key}"], encoder.state_dict()[key])


def test_an_encoder_without_its_weights_is_refused(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    save_whole_clip(tmp_path)
    path = tmp_path / "model.safetensors"
    kept = {key: value for key, value in load_file(path).items() if "post_layernorm" not in key}
    save_file(kept, path, metadata={"format": "pt"})
    with pytest.raises(ModelError, match=r"2 of the \d+ tensors of a CLIPVisionModel are missing"):
        tiny(model=str(tmp_path))


def test_a_fine_tuned_clip_classifier_stays_what_it_is(tmp_path: Path) -> None:
    from transformers import CLIPConfig, CLIPForImageClassification

    config = CLIPConfig(
        vision_config=VISION, text_config=TEXT, id2label=dict(enumerate(NAMES)),
        label2id={name: label for label, name in enumerate(NAMES)},
    )  # fmt: skip
    model = CLIPForImageClassification(config)
    model.save_pretrained(tmp_path)
    loaded = tiny(model=str(tmp_path))
    assert type(loaded.module) is CLIPForImageClassification
    assert torch.equal(loaded.head().weight, model.classifier.weight)


@pytest.mark.parametrize("heads", ["of other width", "missing"])
def test_a_second_head_is_new_too(tmp_path: Path, heads: str) -> None:
    from safetensors.torch import load_file, save_file
    from transformers import DeiTConfig, DeiTForImageClassificationWithTeacher

    DeiTForImageClassificationWithTeacher(DeiTConfig(**VISION, num_labels=7)).save_pretrained(
        tmp_path
    )
    if heads == "missing":
        path = tmp_path / "model.safetensors"
        kept = {key: value for key, value in load_file(path).items() if "classifier" not in key}
        save_file(kept, path, metadata={"format": "pt"})
    assert tiny(model=str(tmp_path)).head().out_features == len(NAMES)


def preprocessor(folder: Path, **settings: Any) -> Classifier:
    """Return a ConvNeXt (which takes any size) whose preprocessor says `settings`."""
    save_convnext(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps(settings))
    return tiny(model=str(folder))


@pytest.mark.parametrize(
    ("settings", "size_px"),
    [
        ({"size": 96}, 96),
        ({"size": {"shortest_edge": 80}}, 80),
        ({"size": {"height": 64, "width": 64}}, 64),
        ({"size": {"shortest_edge": 80}, "crop_size": 72}, 72),
        ({"size": {"shortest_edge": 80}, "crop_size": {"height": 72, "width": 72}}, 72),
        ({"size": {"shortest_edge": 80}, "crop_size": 72, "do_center_crop": False}, 80),
        ({}, 224),
    ],
)
def test_the_size_comes_from_the_preprocessor(
    tmp_path: Path, settings: dict[str, Any], size_px: int
) -> None:
    assert preprocessor(tmp_path, **settings).size_px == size_px


def test_the_size_of_the_settings_goes_first(tmp_path: Path) -> None:
    preprocessor(tmp_path, size=96)
    assert tiny(model=str(tmp_path), size_px=64).size_px == 64


@pytest.mark.parametrize(
    "settings",
    [
        {"image_mean": [0.1, 0.2, 0.3], "image_std": [0.4, 0.5, 0.6], "rescale_factor": 1 / 127.5},
        {"image_mean": [10, 20, 30], "image_std": [40, 50, 60], "do_rescale": False},
        {"image_mean": [0.1, 0.2, 0.3], "image_std": [0.4, 0.5, 0.6]},
        {"do_normalize": False},
    ],
)
def test_colours_are_those_the_preprocessor_makes(tmp_path: Path, settings: dict[str, Any]) -> None:
    from transformers.models.convnext import ConvNextImageProcessorPil

    image = np.random.default_rng(0).integers(0, 256, (224, 224, 3), dtype=np.uint8)
    processor = ConvNextImageProcessorPil(size={"shortest_edge": 224}, do_resize=False, **settings)
    expected = processor(image, return_tensors="pt")["pixel_values"][0]
    ours = preprocessor(tmp_path, **settings).normalise(
        torch.from_numpy(image).permute(2, 0, 1).float() / 255
    )
    torch.testing.assert_close(ours, expected, atol=1e-5, rtol=1e-5)


def test_a_network_trained_on_bgr_gets_bgr(tmp_path: Path) -> None:
    from transformers import MobileViTConfig, MobileViTForImageClassification

    model = MobileViTForImageClassification(
        MobileViTConfig(
            image_size=64, hidden_sizes=[8, 8, 8], neck_hidden_sizes=[4, 4, 4, 8, 8, 8, 16],
            num_attention_heads=2, num_labels=len(NAMES),
        )
    ).eval()  # fmt: skip
    model.save_pretrained(tmp_path)
    (tmp_path / "preprocessor_config.json").write_text(
        '{"do_normalize": false, "do_flip_channel_order": true}'
    )
    loaded = tiny(model=str(tmp_path))
    images = torch.rand((2, 3, 64, 64), generator=torch.Generator().manual_seed(0))
    with loaded.inference(), torch.no_grad():
        torch.testing.assert_close(loaded.logits(images), model(images.flip(1)).logits)
    # so small a random network hardly tells colours apart, hence its first convolution too
    stem = "mobilevit.conv_stem.convolution"
    saved, own = model.get_submodule(stem), loaded.module.get_submodule(stem)
    torch.testing.assert_close(own(images), saved(images.flip(1)), atol=1e-6, rtol=1e-5)
    assert not torch.allclose(own(images), saved(images), atol=1e-3)


def test_batchnorm_of_mobilenet_has_torch_s_momentum(tmp_path: Path) -> None:
    from transformers import MobileNetV2Config, MobileNetV2ForImageClassification

    model = MobileNetV2ForImageClassification(MobileNetV2Config(depth_multiplier=0.25))
    model.save_pretrained(tmp_path)
    norms = [m for m in tiny(model=str(tmp_path)).module.modules() if isinstance(m, nn.BatchNorm2d)]
    assert len(norms) == 52
    assert {norm.momentum for norm in norms} == {0.1}


def test_code_of_a_model_runs_only_with_trust_remote_code(tmp_path: Path) -> None:
    saved = save_vit(tmp_path).state_dict()
    (tmp_path / "own_code.py").write_text(OWN_CODE)
    config = json.loads((tmp_path / "config.json").read_text())
    config["model_type"] = "vit-of-mine"
    config["auto_map"] = {
        "AutoConfig": "own_code.MyConfig",
        "AutoModelForImageClassification": "own_code.MyModel",
    }
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelError, match="--trust-remote-code"):
        tiny(model=str(tmp_path))
    settings = ClassifierConfig(model=str(tmp_path))
    loaded = build_classifier(settings, NAMES, seed=0, trust_remote_code=True)
    assert type(loaded.module).__name__ == "MyModel"
    key = "vit.embeddings.cls_token"
    assert torch.equal(loaded.module.state_dict()[key], saved[key])


OWN_CODE = """
from transformers import ViTConfig, ViTForImageClassification
class MyConfig(ViTConfig):
    model_type = "vit-of-mine"
class MyModel(ViTForImageClassification):
    config_class = MyConfig
"""


def test_without_timm_the_command_to_install_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    for look in (build, check_model):
        with pytest.raises(
            ModelError, match=r"which is not installed: pip install 'gendataagent\[timm\]'"
        ):
            look(ClassifierConfig(model="timm:resnet50_clip.openai"))


def test_a_torchvision_that_breaks_timm_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "timm.py").write_text(
        'raise RuntimeError("operator torchvision::nms does not exist")'
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "timm", raising=False)
    with pytest.raises(
        ModelError, match=r"torchvision::nms does not exist.*torchvision is not built for"
    ):
        tiny(model="timm:resnet50_clip.openai")


def save_named(folder: Path, kind: str, names: Sequence[str]) -> nn.Module:
    """Save a network with these classes."""
    import transformers

    sizes: dict[str, Any] = {
        "vit": {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2,
                "intermediate_size": 32, "image_size": 16, "patch_size": 8},
        "resnet": {"embedding_size": 8, "hidden_sizes": [8, 16], "depths": [1, 1]},
        "convnext": {"num_stages": 2, "hidden_sizes": [8, 16], "depths": [1, 1], "patch_size": 2},
        "deit": {"hidden_size": 4, "num_hidden_layers": 2, "num_attention_heads": 2,
                 "intermediate_size": 8, "image_size": 16, "patch_size": 8},
    }  # fmt: skip
    config_class, model_class = {
        "vit": (transformers.ViTConfig, transformers.ViTForImageClassification),
        "resnet": (transformers.ResNetConfig, transformers.ResNetForImageClassification),
        "convnext": (transformers.ConvNextConfig, transformers.ConvNextForImageClassification),
        "deit": (
            transformers.DeiTConfig,
            transformers.DeiTForImageClassificationWithTeacher,
        ),
    }[kind]
    labels = dict(enumerate(names)) if names else {}
    torch.manual_seed(3)
    config: Any = config_class(
        **sizes[kind],
        num_labels=len(names),
        id2label=labels,
        label2id={name: label for label, name in labels.items()},
    )
    if kind == "deit":
        config.architectures = ["DeiTForImageClassificationWithTeacher"]
    model: Any = model_class(config)
    with torch.no_grad():
        for head in (part for part in model.modules() if isinstance(part, nn.Linear)):
            nn.init.normal_(head.bias, std=0.5)
    model.save_pretrained(folder)
    assert isinstance(model, nn.Module)
    return model


@pytest.mark.parametrize("kind", ["vit", "resnet", "convnext", "deit"])
@pytest.mark.parametrize(
    "names",
    [NAMES[::-1], ("bee", "ñandú", "Gold_Fish", "ant"), ("ñandú", "ant", "bee", "gold fish")],
)
def test_outputs_of_a_checkpoint_are_matched_by_name(
    tmp_path: Path, kind: str, names: tuple[str, ...]
) -> None:
    saved: Any = save_named(tmp_path, kind, names).eval()
    loaded = tiny(model=str(tmp_path), size_px=16)
    images = torch.rand((3, 3, 16, 16))
    with torch.no_grad(), loaded.inference():
        before = saved(loaded.normalise(images)).logits
        after = loaded.logits(images)
    place = [[n.replace("_", " ").lower() for n in names].index(name) for name in NAMES]
    assert torch.allclose(after, before[:, place], atol=1e-5)
    assert "was reordered by class name" in loaded.note
    assert repr(names[0]) in loaded.note
    config: Any = loaded.module.config
    assert list(config.id2label.values()) == list(NAMES)


@pytest.mark.parametrize("kind", ["vit", "resnet", "deit"])
@pytest.mark.parametrize(
    "names", [("ant", "bee", "gold fish", "yak"), ("LABEL_0", "LABEL_1", "LABEL_2", "LABEL_3")]
)
def test_outputs_for_other_classes_are_new(
    tmp_path: Path, kind: str, names: tuple[str, ...]
) -> None:
    saved: Any = save_named(tmp_path, kind, names).eval()
    loaded, again = (tiny(model=str(tmp_path), size_px=16) for _ in range(2))
    other = tiny(1, model=str(tmp_path), size_px=16)
    images = torch.rand((3, 3, 16, 16))
    with torch.no_grad(), loaded.inference(), again.inference(), other.inference():
        before = saved(loaded.normalise(images)).logits
        after = loaded.logits(images)
        assert torch.equal(after, again.logits(images))
        assert not torch.equal(after, other.logits(images))
    assert not torch.isclose(after, before).any()
    assert "is new: its classes are not those of the data" in loaded.note
    assert f"the model has {', '.join(map(repr, names))}" in loaded.note
    changed = {
        key
        for key, weight in saved.state_dict().items()
        if not torch.equal(weight, loaded.module.state_dict()[key])
    }
    assert changed
    assert all("classifier" in key for key in changed)


MOVED = {name: number for number, name in enumerate(NAMES[::-1])}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            {"id2label": {str(n + (n > 1)): name for n, name in enumerate(NAMES)}},
            "it names the numbers 0, 1, 3, 4; needed are 0 to 3",
        ),
        ({"label2id": MOVED}, "label2id and id2label give 'ant' different numbers"),
    ],
    ids=["gap", "contradiction"],
)
def test_unclear_names_are_no_names_of_outputs(
    tmp_path: Path, change: dict[str, Any], said: str
) -> None:
    saved = save_named(tmp_path, "vit", NAMES).state_dict()
    path = tmp_path / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    loaded = tiny(model=str(tmp_path), size_px=16)
    assert not torch.isclose(loaded.head().weight, saved["classifier.weight"]).any()
    assert "is new: its classes are not those of the data" in loaded.note
    assert "the model has 'output 0', 'output 1'" in loaded.note
    with pytest.raises(RunFolderError, match=said):
        read_classifier(tmp_path)


def test_the_same_classes_in_the_same_order_are_kept_in_silence(tmp_path: Path) -> None:
    saved = save_named(tmp_path, "vit", NAMES).state_dict()
    loaded = tiny(model=str(tmp_path))
    assert torch.equal(loaded.head().weight, saved["classifier.weight"])
    assert loaded.note == ""


@pytest.mark.parametrize("look", [check_model, build], ids=["checked", "built"])
@pytest.mark.parametrize("kind", ["vit", "resnet", "convnext", "deit"])
@pytest.mark.parametrize("damage", ["seven outputs", "no bias", "no weight"])
def test_a_head_that_is_not_that_of_its_classes_is_refused(
    damage: str, kind: str, look: Callable[[ClassifierConfig], object], tmp_path: Path
) -> None:
    """With the names of the data it would be taken for the trained one."""
    from safetensors.torch import load_file, save_file

    save_named(tmp_path, kind, NAMES)
    path = tmp_path / "model.safetensors"
    tensors = load_file(path)
    bias = next(name for name in tensors if "classifier" in name and name.endswith("bias"))
    weight = bias.replace("bias", "weight")
    said = rf"1 of the \d+ tensors of a \w+ are missing \({bias}\)"
    if damage == "seven outputs":
        tensors |= {bias: torch.zeros(7), weight: torch.zeros(7, tensors[weight].shape[1])}
        said = rf"{bias} has shape \[7\], but a \w+ by its configuration has \[4\]"
    else:
        del tensors[bias if damage == "no bias" else weight]
        said = said if damage == "no bias" else said.replace(bias, weight)
    save_file(tensors, path, metadata={"format": "pt"})
    with pytest.raises(ModelError, match=said):
        look(ClassifierConfig(model=str(tmp_path), size_px=16))


def test_a_head_that_is_missing_is_new_and_that_is_said(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    save_named(tmp_path, "vit", NAMES)
    path = tmp_path / "model.safetensors"
    kept = {name: t for name, t in load_file(path).items() if "classifier" not in name}
    save_file(kept, path, metadata={"format": "pt"})
    check_model(ClassifierConfig(model=str(tmp_path)))
    loaded = tiny(model=str(tmp_path), size_px=16)
    assert "output layer of classifier.model is new: it has none" in loaded.note


def test_an_output_layer_that_is_not_recognised_is_refused() -> None:
    class Strange(nn.Module):
        """Its outputs come from a convolution."""

        def __init__(self) -> None:
            super().__init__()
            self.outputs = nn.Conv2d(3, 2, 1)

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return torch.as_tensor(self.outputs(images).mean(dim=(2, 3)))

    with pytest.raises(ModelError, match=r"Strange are not those of the data.*pretrained=false"):
        fit_head(Strange(), ("b", "a"), ("a", "b"), size_px=8)
