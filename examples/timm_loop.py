"""The agent in timm's training loop: its loader, augmentation, optimiser and schedule.

pip install timm torchvision
python examples/timm_loop.py bundled:cifar10 runs/timm 6
"""

import sys
from typing import Any

import timm
import torch
from timm.data import create_loader
from timm.optim import create_optimizer_v2
from timm.scheduler import create_scheduler_v2
from timm.utils import AverageMeter, accuracy
from torch import nn
from torch.utils.data import DataLoader, Dataset

from gendataagent import Agent, RealAndSynthetic, load_data

SIZE_PX = 32


class Images(Dataset[Any]):
    """Images as timm's loader takes them: it sets `transform`."""

    def __init__(self, images: Any) -> None:
        self.images = images
        self.transform: Any = lambda image: image

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Any:
        image, label = self.images[index]
        return self.transform(image), label


def main(data: str, out: str, epochs: int) -> None:
    splits = load_data(data)
    torch.manual_seed(0)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model = timm.create_model(
        "resnet10t", num_classes=len(splits.class_names), pretrained=False
    ).to(device)
    mean, std = model.pretrained_cfg["mean"], model.pretrained_cfg["std"]

    agent = Agent.open(
        splits.train, out=f"{out}/agent", epochs=epochs, rounds=2, num_inference_steps=10,
        guidance_scale=3.0, size_px=SIZE_PX, mean=mean, std=std,
    )  # fmt: skip
    both = RealAndSynthetic(agent, splits.train)
    common = {"input_size": (3, SIZE_PX, SIZE_PX), "mean": mean, "std": std, "device": device}
    loader = create_loader(
        both, batch_size=min(64, len(both)), is_training=True, auto_augment="rand-m9-mstd0.5",
        re_prob=0.25, num_workers=1, **common,
    )  # fmt: skip
    test_loader = create_loader(
        Images(splits.test), batch_size=64, num_workers=0, persistent_workers=False, **common
    )
    optimizer = create_optimizer_v2(model, opt="adamw", lr=1e-3, weight_decay=0.05)
    scheduler, _ = create_scheduler_v2(
        optimizer, sched="cosine", num_epochs=epochs, updates_per_epoch=len(loader)
    )
    for epoch in range(epochs):
        both.begin_epoch(model, epoch)
        train_one_epoch(model, loader, optimizer)
        scheduler.step(epoch + 1)
        torch.save(model.state_dict(), f"{out}/last.pt")

    top1 = AverageMeter()
    model.eval()
    with torch.no_grad():
        for images, labels in test_loader:
            images, labels = images.to(device), labels.to(device)
            top1.update(accuracy(model(images), labels)[0].item(), len(labels))
    print(f"top-1 {top1.avg:.1f} %, {len(both.synthetic)} synthetic images")


def train_one_epoch(
    model: nn.Module, loader: DataLoader[Any], optimizer: torch.optim.Optimizer
) -> None:
    model.train()
    device = next(model.parameters()).device
    for images, labels in loader:
        loss = nn.functional.cross_entropy(model(images.to(device)), labels.to(device))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
