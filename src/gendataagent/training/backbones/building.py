"""`build_classifier`: the classifier that the settings name, initialised by seed."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence

import torch

from gendataagent.config import AUTO, ClassifierConfig
from gendataagent.config.training import TIMM_PREFIX
from gendataagent.core.devices import memory_errors
from gendataagent.core.errors import ModelError
from gendataagent.training.backbones.head import fit_head
from gendataagent.training.backbones.preprocessing import Backbone
from gendataagent.training.backbones.timm_models import check_timm_model, timm_backbone
from gendataagent.training.backbones.tiny_resnet import TINY_RESNET, TINY_RESNET_PX, tiny_resnet
from gendataagent.training.backbones.transformers_models import (
    check_transformers_model,
    transformers_backbone,
)
from gendataagent.training.classifier import Classifier

SMALLER_MODEL = (
    "end other programs that use it, or choose a smaller classifier.model or classifier.size_px"
)
SMALL_IMAGES_PX = 64  # up to this size "auto" is tiny-resnet
RESNET_50 = "microsoft/resnet-50"  # [S]


def build_classifier(
    config: ClassifierConfig,
    class_names: Sequence[str],
    *,
    seed: int,
    device: torch.device | str = "cpu",
    typical_side_px: int = TINY_RESNET_PX,
    trust_remote_code: bool = False,
) -> Classifier:
    """Return a new classifier; its random weights depend on `seed` alone.

    Args:
        typical_side_px: usual shorter side of the images; decides which model "auto" is.
        trust_remote_code: whether Python code of a downloaded model may be run.

    Raises:
        ModelError: the model cannot be found or loaded, or does not fit the images' size.
        MemoryShortError: it does not fit into the memory.
    """
    name = choose_model(config.model, typical_side_px=typical_side_px, device=device)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # torch.manual_seed would seed all devices
        backbone = _backbone(name, config, class_names, trust_remote_code)
        size_px, note = backbone.size_px, backbone.note
        if backbone.own_names is not None:
            with _trying(name, size_px):
                note = fit_head(backbone.module, backbone.own_names, class_names, size_px=size_px)
    classifier = Classifier(
        backbone.module,
        class_names=class_names,
        size_px=size_px,
        mean=backbone.mean,
        std=backbone.std,
        device=device,
        note=note,
    )
    with _trying(name, size_px), classifier.inference(), torch.no_grad():
        classifier.logits(torch.zeros((1, 3, size_px, size_px), device=device))
    return classifier


@contextlib.contextmanager
def _trying(name: str, size_px: int) -> Iterator[None]:
    """Explain the errors of a network that gets images of this size."""
    try:
        with memory_errors(f"trying {name} on one image of {size_px} px", SMALLER_MODEL):
            yield
    except (RuntimeError, ValueError, AssertionError) as error:
        raise ModelError(
            f"{name} cannot take images of {size_px} px: {error}. Set classifier.size_px to the "
            "size it was made for"
        ) from error


def _backbone(
    name: str, config: ClassifierConfig, class_names: Sequence[str], trust_remote_code: bool
) -> Backbone:
    if name == TINY_RESNET:
        return tiny_resnet(class_names, size_px=config.size_px)
    if name.startswith(TIMM_PREFIX):
        return timm_backbone(name, config, class_names)
    return transformers_backbone(name, config, class_names, trust_remote_code=trust_remote_code)


def check_model(config: ClassifierConfig, *, trust_remote_code: bool = False) -> None:
    """Raise `ModelError` for what can be known to be wrong with `classifier.model` before loading.

    Downloads at most one small file from the hub. "auto" is checked once it is resolved.
    """
    if config.model.startswith(TIMM_PREFIX):
        check_timm_model(config.model, config)
    elif config.model not in (AUTO, TINY_RESNET):
        check_transformers_model(config.model, config, trust_remote_code=trust_remote_code)


def choose_model(name: str, *, typical_side_px: int, device: torch.device | str) -> str:
    """Return the model that `classifier.model` names, with "auto" resolved."""
    if name != AUTO:
        return name
    small = typical_side_px <= SMALL_IMAGES_PX or torch.device(device).type == "cpu"
    return TINY_RESNET if small else RESNET_50
