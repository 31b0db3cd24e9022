"""Your own training loop with the agent: ask for this round's images, tell it the new weights.

python examples/own_loop.py bundled:cifar10 runs/own 6
"""

import sys
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import nn
from torch.utils.data import ConcatDataset, DataLoader

from gendataagent import Agent, load_data

SIZE_PX = 32


def collate(items: list[tuple[Image.Image, int]]) -> tuple[torch.Tensor, torch.Tensor]:
    images = [np.array(image.resize((SIZE_PX, SIZE_PX))) for image, _ in items]
    pixels_B3SS = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).float() / 255
    return pixels_B3SS, torch.tensor([label for _, label in items])


def main(data: str, out: str, epochs: int) -> None:
    splits = load_data(data)
    model = nn.Sequential(
        *(nn.Conv2d(3, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(32, 64, 3, padding=1), nn.BatchNorm2d(64), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(1024, len(splits.class_names))),
    )
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    agent = Agent.open(
        splits.train, out=out, epochs=epochs, rounds=2,
        size_px=SIZE_PX, mean=(0, 0, 0), std=(1, 1, 1),  # this model sees values in [0, 1]
        num_inference_steps=10, guidance_scale=3.0,
    )  # fmt: skip
    for epoch in range(epochs):
        synthetic = agent.ask(model, epoch=epoch)
        both: ConcatDataset[Any] = ConcatDataset([splits.train, synthetic])
        model.train()
        for images, labels in DataLoader(both, 64, shuffle=True, collate_fn=collate):
            loss = nn.functional.cross_entropy(model(images), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        agent.tell(model, epoch=epoch + 1)

    model.eval()
    with torch.no_grad():
        right = [
            model(x).argmax(1) == y for x, y in DataLoader(splits.test, 64, collate_fn=collate)
        ]
    print(f"top-1 {torch.cat(right).float().mean():.1%}, {len(synthetic)} synthetic images")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
