"""A small ResNet for small images, trained from scratch: what "auto" is without a GPU."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import nn

from gendataagent.training.backbones.preprocessing import Backbone

TINY_RESNET = "tiny-resnet"
TINY_RESNET_PX = 64
_STEM = 24
_WIDTHS = (36, 72, 144)


def tiny_resnet(class_names: Sequence[str], *, size_px: int = 0) -> Backbone:
    """Return a small ResNet (0.4 M parameters), a stock class of transformers.

    Its 7x7 stem and pooling leave a quarter of the side. Small photographs are therefore enlarged:
    at twice their size it is more accurate, in as much time, than a patched 3x3 stem at their own
    (docs/results/choose-small-classifier.md).
    """
    from transformers import ResNetConfig, ResNetForImageClassification

    config = ResNetConfig(
        embedding_size=_STEM,
        hidden_sizes=list(_WIDTHS),
        depths=[1] * len(_WIDTHS),
        layer_type="basic",
        num_labels=len(class_names),
        id2label=dict(enumerate(class_names)),
        label2id={name: label for label, name in enumerate(class_names)},
    )
    module: nn.Module = ResNetForImageClassification(config)
    # a third faster on a CPU, and no slower on a GPU
    module = cast(nn.Module, module.to(memory_format=torch.channels_last))  # type: ignore[call-overload]
    return Backbone(module=module, size_px=size_px or TINY_RESNET_PX)
