"""Your own training loop: ask the agent for this round's images, tell it the new weights.

python examples/own_loop.py bundled:cifar10 runs/own 6
"""

import sys

import torch
from torch import nn

from gendataagent.agent.agent import Agent
from gendataagent.config import RunConfig
from gendataagent.data import load_data
from gendataagent.data.pixels import Pixels
from gendataagent.training.classifier import Classifier
from gendataagent.training.evaluation import evaluate

SIZE_PX = 32


def my_network(classes: int) -> nn.Module:
    return nn.Sequential(
        *(nn.Conv2d(3, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(32, 64, 3, padding=1), nn.BatchNorm2d(64), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(64 * 16, classes)),
    )


def main(data: str, out: str, epochs: int) -> None:
    config = RunConfig.from_dict(
        {
            "data": {"path": data, "train_per_class": 20},
            "training": {"epochs": epochs},  # the agent spreads its rounds over these
            "agent": {"rounds": 2},
            "generation": {"num_inference_steps": 10, "guidance_scale": 3.0},
        }
    )
    splits = load_data(config.data, seed=config.seed)
    real = Pixels.from_images(splits.train, SIZE_PX)
    network = my_network(len(splits.class_names))
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3)
    classifier = Classifier.wrap(network, class_names=splits.class_names, size_px=SIZE_PX)
    agent = Agent.open(config, splits.train, out)

    for epoch in range(epochs):
        images = agent.ask(classifier, epoch=epoch)
        both = [real, Pixels.from_images(images, SIZE_PX)] if len(images) else [real]
        train_one_epoch(network, optimizer, classifier, Pixels.concat(both))
        agent.tell(classifier, epoch=epoch + 1)

    test = evaluate(classifier, Pixels.from_images(splits.test, SIZE_PX), "test")
    print(f"top-1 {test.top1:.1%} with {len(images)} synthetic images in the last epoch")


def train_one_epoch(
    network: nn.Module,
    optimizer: torch.optim.Optimizer,
    classifier: Classifier,
    pixels: Pixels,
) -> None:
    network.train()
    for batch in torch.randperm(len(pixels)).split(64):
        logits = classifier.logits(pixels.batch(batch).float() / 255)
        loss = nn.functional.cross_entropy(logits, pixels.labels[batch])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
