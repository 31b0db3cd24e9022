"""The whole method in one file: plain torch and diffusers, nothing imported from the package.

    python examples/one_file_loop.py photos/ --generator MODEL --epochs 40 --rounds 4

`photos/` has one folder per class. MODEL is any Stable Diffusion, a folder or a hub id. `main` is
the algorithm. Resume, caches, captioning and language models, LoRA, class-safe prompts, leakage
checks and reports are left to the package.

Letters in tensor names: N images, B images of a batch, C classes, H and W in px, T snapshots.
"""

from __future__ import annotations

import argparse
import copy
import random
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as functional
from diffusers import AutoPipelineForImage2Image
from PIL import Image, ImageOps
from torch import Tensor, nn

LIGHT = ("in bright light", "in dim light", "in soft light")
PLACE = ("on a green background", "on a blue background", "on a grey background")
NEGATIVE_PROMPT = "distorted, unrealistic, blurry, out of frame"


def main() -> None:
    options = parse()
    torch.manual_seed(options.seed)
    random.seed(options.seed)
    images, labels_N, classes = read_folder(options.data, options.size)
    real_N3HW, held_out = to_tensor(images), torch.arange(len(images)) % 5 == 0
    train = (~held_out).nonzero().flatten()
    model = network(len(classes))
    snapshots: list[dict[str, Tensor]] = []
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, weight_decay=5e-4)
    pipeline = AutoPipelineForImage2Image.from_pretrained(options.generator)
    pipeline.set_progress_bar_config(disable=True)
    every = max(1, options.epochs // (options.rounds + 1))
    extra_N3HW, extra_labels_N = real_N3HW[:0], labels_N[:0]

    for epoch in range(options.epochs):
        if epoch and epoch % every == 0 and epoch // every <= options.rounds:
            # 1. Which real training images does the classifier find hard?
            scores_N = marginal_scores(model, real_N3HW[train], labels_N[train])
            hard = train[hardest(scores_N, round(options.share * len(train)))].tolist()
            # 2. Describe each, change the description a little, several times.
            prompts = [
                f"A photo of {classes[labels_N[i]]}, which is {rewrite(caption(images[i]))}"
                for i in hard
                for _ in range(options.rewrites)
            ]
            sources = [i for i in hard for _ in range(options.rewrites)]
            # 3. Draw new images, starting from the hard ones.
            made = draw(pipeline, [images[i] for i in sources], prompts, options, epoch)
            made_N3HW, made_labels_N = to_tensor(made), labels_N[sources]
            # 4. Keep the images with the highest variance of gradients in their class.
            kept = torch.arange(len(made))
            if len(snapshots) >= 2:
                vog_N = variance_of_gradients(model, snapshots, made_N3HW, made_labels_N)
                kept = keep_highest(vog_N, made_labels_N, options.drop_share)
            extra_N3HW, extra_labels_N = made_N3HW[kept], made_labels_N[kept]
            print(f"epoch {epoch}: {len(hard)} hard images, {len(made)} made, {len(kept)} kept")
        # 5. Train on real and kept images.
        train_epoch(
            model,
            optimizer,
            torch.cat([real_N3HW[train], extra_N3HW]),
            torch.cat([labels_N[train], extra_labels_N]),
        )
        if epoch < every:  # early snapshots, before the first round
            snapshots = [*snapshots, copy.deepcopy(model.state_dict())][-3:]

    scores_NC = predict(model, real_N3HW[held_out])
    accuracy = (scores_NC.argmax(1) == labels_N[held_out]).float().mean()
    print(f"top-1 on {int(held_out.sum())} held-out images: {accuracy:.1%}")


def marginal_scores(model: nn.Module, images_N3HW: Tensor, labels_N: Tensor) -> Tensor:
    """Return p(true class | image) [N]."""
    return predict(model, images_N3HW).softmax(1).gather(1, labels_N[:, None]).flatten()


def hardest(scores_N: Tensor, count: int) -> Tensor:
    """Return the positions of the `count` lowest scores, lowest first."""
    return scores_N.argsort(stable=True)[:count]


def variance_of_gradients(
    model: nn.Module, snapshots: list[dict[str, Tensor]], images_N3HW: Tensor, labels_N: Tensor
) -> Tensor:
    """Return VoG [N] (Agarwal et al., CVPR 2022, in the form of its authors' code).

    In eval mode the gradient of the summed true-class logits is every image's own gradient.
    """
    probe = copy.deepcopy(model).eval().requires_grad_(False)
    gradients = []
    for weights in snapshots:
        probe.load_state_dict(weights)
        parts = []
        for images_B3HW, labels_B in zip(images_N3HW.split(64), labels_N.split(64), strict=True):
            inputs_B3HW = normalise(images_B3HW).requires_grad_()
            true_B = probe(inputs_B3HW).gather(1, labels_B[:, None])
            parts.append(torch.autograd.grad(true_B.sum(), inputs_B3HW)[0].mean(dim=1))
        gradients.append(torch.cat(parts))
    return torch.stack(gradients).std(dim=0, correction=0).mean(dim=(1, 2))


def keep_highest(scores_N: Tensor, labels_N: Tensor, drop_share: float) -> Tensor:
    """Return the positions left when the lowest `drop_share` of each class is dropped."""
    kept = []
    for label in labels_N.unique():
        here = (labels_N == label).nonzero().flatten()
        order = here[scores_N[here].argsort(stable=True)]
        kept.append(order[int(drop_share * len(here) + 1e-9) :])
    return torch.cat(kept).sort().values


def caption(image: Image.Image) -> str:
    """Return the image's main colour. A real captioner, such as BLIP-2, says far more."""
    red, green, blue = image.resize((1, 1)).getpixel((0, 0))  # type: ignore[misc]
    if max(red, green, blue) - min(red, green, blue) < 20:
        return "white" if red > 170 else "black" if red < 85 else "grey"
    return {red: "red", green: "green", blue: "blue"}[max(red, green, blue)]


def rewrite(words: str) -> str:
    """Return a slightly changed caption with the same subject. The paper asks Llama-2."""
    return ", ".join([words, random.choice(PLACE), random.choice(LIGHT)])


def draw(
    pipeline: Any,
    sources: list[Image.Image],
    prompts: list[str],
    options: argparse.Namespace,
    epoch: int,
) -> list[Image.Image]:
    """Return one image-to-image result per source and prompt, each from a seed of its own."""
    made: list[Image.Image] = []
    seeds = [options.seed + 1_000_000 * epoch + i for i in range(len(prompts))]
    for here in (slice(start, start + 8) for start in range(0, len(prompts), 8)):
        made += pipeline(
            prompt=prompts[here],
            image=sources[here],
            negative_prompt=[NEGATIVE_PROMPT] * len(prompts[here]),
            strength=options.strength,
            guidance_scale=options.guidance_scale,
            num_inference_steps=options.steps,
            generator=[torch.Generator().manual_seed(seed) for seed in seeds[here]],
        ).images
    return made


def network(classes: int) -> nn.Module:
    layers: list[nn.Module] = []
    for before, after in ((3, 32), (32, 64), (64, 128)):
        layers += [nn.Conv2d(before, after, 3, padding=1), nn.BatchNorm2d(after), nn.ReLU()]
        layers += [nn.MaxPool2d(2)]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(128, classes))


def normalise(images_B3HW: Tensor) -> Tensor:
    """Return uint8 images as what the network sees: about -2 to 2."""
    return (images_B3HW.float() / 255 - 0.5) / 0.25


@torch.no_grad()
def predict(model: nn.Module, images_N3HW: Tensor) -> Tensor:
    """Return logits [N, C] in eval mode."""
    model.eval()
    return torch.cat([model(normalise(images_B3HW)) for images_B3HW in images_N3HW.split(256)])


def train_epoch(
    model: nn.Module, optimizer: torch.optim.Optimizer, images_N3HW: Tensor, labels_N: Tensor
) -> None:
    model.train()
    for batch in torch.randperm(len(labels_N)).split(64):
        inputs_B3HW = normalise(images_N3HW[batch])
        if random.random() < 0.5:
            inputs_B3HW = inputs_B3HW.flip(-1)
        loss = functional.cross_entropy(model(inputs_B3HW), labels_N[batch])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def read_folder(root: Path, size_px: int) -> tuple[list[Image.Image], Tensor, list[str]]:
    """Return the images of class folders as RGB squares, their labels and the class names."""
    classes = sorted(folder.name for folder in root.iterdir() if folder.is_dir())
    files = [(f, k) for k, name in enumerate(classes) for f in sorted((root / name).iterdir())]
    images = [ImageOps.fit(Image.open(f).convert("RGB"), (size_px, size_px)) for f, _ in files]
    return images, torch.tensor([k for _, k in files]), classes


def to_tensor(images: list[Image.Image]) -> Tensor:
    """Return RGB images as uint8 [N, 3, H, W]."""
    return torch.from_numpy(np.stack([np.asarray(i) for i in images])).permute(0, 3, 1, 2)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="GenDataAgent in one file")
    parser.add_argument("data", type=Path, help="folder with one folder of images per class")
    parser.add_argument("--generator", required=True, help="Stable Diffusion: folder or hub id")
    for name, default, meaning in (
        ("size", 32, "side of the images in px"),
        ("epochs", 40, "epochs of training"),
        ("rounds", 4, "on-the-fly iterations"),
        ("share", 0.2, "hardest share of the training images that new ones are made from"),
        ("rewrites", 5, "new images per hard image"),
        ("strength", 0.75, "of image-to-image: 1 ignores the source image"),
        ("guidance-scale", 7.5, "of classifier-free guidance"),
        ("steps", 10, "of the diffusion scheduler"),
        ("drop-share", 0.25, "share of each class that the VoG filter drops"),
        ("seed", 0, "of everything random"),
    ):
        parser.add_argument(f"--{name}", type=type(default), default=default, help=meaning)
    return parser.parse_args()


if __name__ == "__main__":
    main()
