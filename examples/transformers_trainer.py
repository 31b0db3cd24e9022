"""The agent inside `transformers.Trainer`.

python examples/transformers_trainer.py bundled:cifar10 runs/trainer 6

The same command again resumes after the last checkpoint, with the images of the finished rounds.
"""

import sys
from typing import Any

import numpy as np
import torch
from transformers import ResNetConfig, ResNetForImageClassification, Trainer, TrainingArguments
from transformers.trainer_utils import get_last_checkpoint

from gendataagent import Agent, RealAndSynthetic, load_data

SIZE_PX = 32


def to_tensor(image: Any) -> torch.Tensor:
    pixels_SS3 = np.array(image.convert("RGB").resize((SIZE_PX, SIZE_PX)))
    return torch.from_numpy(pixels_SS3).permute(2, 0, 1).float() / 255


def transform(rows: dict[str, list[Any]]) -> dict[str, list[Any]]:
    return {"pixel_values": [to_tensor(i) for i in rows["image"]], "labels": rows["label"]}


def accuracy(prediction: Any) -> dict[str, float]:
    return {"accuracy": float((prediction.predictions.argmax(1) == prediction.label_ids).mean())}


def main(data: str, out: str, epochs: int) -> None:
    splits = load_data(data)
    train_set = splits.train.to_datasets().with_transform(transform)
    validation = splits.validation.to_datasets().with_transform(transform)
    torch.manual_seed(0)
    model = ResNetForImageClassification(
        ResNetConfig(
            embedding_size=32, hidden_sizes=[32, 64], depths=[1, 1], layer_type="basic",
            id2label=dict(enumerate(splits.class_names)),
        )
    )  # fmt: skip
    arguments = TrainingArguments(
        f"{out}/trainer", num_train_epochs=epochs, per_device_train_batch_size=64, report_to="none",
        learning_rate=1e-3, save_strategy="epoch", eval_strategy="epoch",
        remove_unused_columns=False,
    )  # fmt: skip

    agent = Agent.open(
        train_set, out=f"{out}/agent", epochs=epochs, rounds=2, num_inference_steps=10,
        guidance_scale=3.0, size_px=SIZE_PX, mean=(0, 0, 0), std=(1, 1, 1),  # as `to_tensor`
    )  # fmt: skip
    both = RealAndSynthetic(agent, train_set)
    trainer = Trainer(
        model, arguments, train_dataset=both, eval_dataset=validation, compute_metrics=accuracy,
        callbacks=[both.transformers_callback()],
    )  # fmt: skip
    trainer.train(resume_from_checkpoint=get_last_checkpoint(f"{out}/trainer"))

    found = trainer.evaluate(splits.test.to_datasets().with_transform(transform))
    print(f"top-1 {found['eval_accuracy']:.1%}, {len(both.synthetic)} synthetic images")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
