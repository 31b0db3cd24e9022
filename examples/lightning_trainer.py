"""The agent inside `lightning.Trainer`: pip install lightning

python examples/lightning_trainer.py bundled:cifar10 runs/lightning 6

The same command again resumes after the last checkpoint, with the images of the finished rounds.
"""

import sys
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import nn
from torch.utils.data import DataLoader

from gendataagent import Agent, RealAndSynthetic, load_data

SIZE_PX = 32


def to_tensor(image: Any) -> torch.Tensor:
    pixels_SS3 = np.array(image.convert("RGB").resize((SIZE_PX, SIZE_PX)))
    return torch.from_numpy(pixels_SS3).permute(2, 0, 1).float() / 255


def collate(items: list[tuple[Any, int]]) -> tuple[torch.Tensor, torch.Tensor]:
    images, labels = zip(*items, strict=True)
    return torch.stack([to_tensor(image) for image in images]), torch.tensor(labels)


class Classifier(lightning.LightningModule):  # type: ignore[misc]
    def __init__(self, classes: int) -> None:
        super().__init__()
        self.network = nn.Sequential(
            *(nn.Conv2d(3, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(), nn.MaxPool2d(2)),
            *(nn.Conv2d(32, 64, 3, padding=1), nn.BatchNorm2d(64), nn.ReLU(), nn.MaxPool2d(2)),
            *(nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(1024, classes)),
        )

    def forward(self, images: torch.Tensor) -> Any:
        return self.network(images)

    def training_step(self, batch: Any, index: int) -> torch.Tensor:
        images, labels = batch
        return nn.functional.cross_entropy(self(images), labels)

    def test_step(self, batch: Any, index: int) -> None:
        images, labels = batch
        self.log("top-1", (self(images).argmax(1) == labels).float().mean())

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), lr=1e-3)


def main(data: str, out: str, epochs: int) -> None:
    splits = load_data(data)
    lightning.seed_everything(0, verbose=False)
    module = Classifier(len(splits.class_names))

    agent = Agent.open(
        splits.train, out=f"{out}/agent", epochs=epochs, rounds=2, num_inference_steps=10,
        guidance_scale=3.0, size_px=SIZE_PX, mean=(0, 0, 0), std=(1, 1, 1),  # as `to_tensor`
    )  # fmt: skip
    both = RealAndSynthetic(agent, splits.train)
    trainer = lightning.Trainer(
        max_epochs=epochs, default_root_dir=out, logger=False, enable_progress_bar=False,
        callbacks=[both.lightning_callback(), ModelCheckpoint(f"{out}/saved", save_last=True)],
    )  # fmt: skip
    last = Path(out, "saved", "last.ckpt")
    trainer.fit(
        module,
        DataLoader(both, 64, shuffle=True, collate_fn=collate),
        ckpt_path=last if last.exists() else None,
    )

    trainer.test(module, DataLoader(splits.test, 64, collate_fn=collate))
    print(f"{len(both.synthetic)} synthetic images")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
