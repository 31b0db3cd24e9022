"""Evaluate the bundled Stable Diffusion through the standard diffusers pipelines.

    python judge_tiny_sd.py --model DIR --slice DIR --judge FILE.pth --to judge.json [--grids DIR]

`--slice` is the folder of make_slice.py, whose images the generator never saw; `--judge` the
weights of judge_network.py. Reported: the autoencoder's error; how often an image made from text
alone is recognised as its class; the same for image-to-image with rewritten captions; and how often
a requested attribute is found, next to how often it is found without being requested.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from cifar10 import CLASS_NAMES
from datasets import load_dataset
from diffusers import StableDiffusionImg2ImgPipeline, StableDiffusionPipeline
from judge_network import ResNet56, classify, load_judge
from PIL import Image
from tiny_autoencoder import reconstruction_psnr_db, to_pixels
from tiny_text import NEGATIVE_PROMPT

from gendataagent.core.protocols import RewriteRequest
from gendataagent.generation.prompts import compose_prompt
from gendataagent.generation.tiny.attributes import read_attributes
from gendataagent.generation.tiny.rewriter import AttributeRewriter
from gendataagent.generation.tiny.vocabulary import MEANING, SEPARATOR, caption_of

BATCH = 50
Figures = dict[str, Any]


@dataclass(frozen=True)
class Source:
    """A real image, its class index and the caption to make an image from."""

    image: Image.Image
    label: int
    caption: str

    @property
    def prompt(self) -> str:
        return compose_prompt(CLASS_NAMES[self.label], self.caption)


def main() -> None:
    arguments = _parse()
    torch.set_num_threads(arguments.threads)
    judge = load_judge(arguments.judge)
    real = load_sources(arguments.slice / "validation.parquet", arguments.a_class)
    # The judge was trained on train rows up to 45,000, so its loss of accuracy on reconstructions
    # only shows on test images.
    unseen = load_sources(arguments.slice / "test.parquet", 100)
    text = StableDiffusionPipeline.from_pretrained(arguments.model)
    text.set_progress_bar_config(disable=True)
    image = StableDiffusionImg2ImgPipeline(**text.components, requires_safety_checker=False)
    image.set_progress_bar_config(disable=True)
    figures: Figures = {"images_each": len(real), "steps": arguments.steps}
    figures["autoencoder"] = judge_autoencoder(text.vae, unseen, judge)
    for guidance in arguments.guidance:
        for name, sources in (("class only", without_captions(real)), ("captioned", real)):
            made = make_from_text(text, sources, guidance=guidance, steps=arguments.steps)
            key = f"text, {name}, guidance {guidance:g}"
            figures[key] = judge_images(made, sources, judge)
            report(key, figures[key], made, arguments.grids)
    rewritten = rewrite(real)
    for strength in arguments.strength:
        made = make_from_images(image, rewritten, strength=strength, steps=arguments.steps)
        key = f"image-to-image, strength {strength:g}, guidance 7.5"
        figures[key] = judge_images(made, rewritten, judge)
        report(key, figures[key], made, arguments.grids)
    arguments.to.write_text(json.dumps(figures, indent=1) + "\n")
    print(as_markdown(figures))


def load_sources(parquet: Path, a_class: int) -> list[Source]:
    """The first `a_class` images of each class with their own captions."""
    rows = load_dataset("parquet", data_files={"rows": str(parquet)}, split="rows")
    sources: list[Source] = []
    for label in range(len(CLASS_NAMES)):
        indices = [i for i, found in enumerate(rows["label"]) if found == label][:a_class]
        images = [rows[i]["image"].convert("RGB") for i in indices]
        sources += [Source(im, label, caption_of(read_attributes(im))) for im in images]
    return sources


def without_captions(sources: Sequence[Source]) -> list[Source]:
    return [Source(source.image, source.label, "") for source in sources]


def rewrite(sources: Sequence[Source]) -> list[Source]:
    """Each source with a rewritten caption; the seed is its position in the list."""
    requests = [
        RewriteRequest(caption=s.caption, class_name=CLASS_NAMES[s.label], seeds=(i,))
        for i, s in enumerate(sources)
    ]
    rewrites = AttributeRewriter().rewrite(requests)
    return [Source(s.image, s.label, r[0].text) for s, r in zip(sources, rewrites, strict=True)]


def make_from_text(
    pipeline: StableDiffusionPipeline, sources: Sequence[Source], *, guidance: float, steps: int
) -> list[Image.Image]:
    made: list[Image.Image] = []
    for start in range(0, len(sources), BATCH):
        batch = sources[start : start + BATCH]
        made += pipeline(
            [source.prompt for source in batch],
            negative_prompt=[NEGATIVE_PROMPT] * len(batch),
            guidance_scale=guidance,
            num_inference_steps=steps,
            generator=_generators(start, len(batch)),
        ).images
    return made


def make_from_images(
    pipeline: StableDiffusionImg2ImgPipeline,
    sources: Sequence[Source],
    *,
    strength: float,
    steps: int,
    guidance: float = 7.5,
) -> list[Image.Image]:
    made: list[Image.Image] = []
    for start in range(0, len(sources), BATCH):
        batch = sources[start : start + BATCH]
        made += pipeline(
            [source.prompt for source in batch],
            image=[source.image for source in batch],
            negative_prompt=[NEGATIVE_PROMPT] * len(batch),
            strength=strength,
            guidance_scale=guidance,
            num_inference_steps=steps,
            generator=_generators(start, len(batch)),
        ).images
    return made


def _generators(first_seed: int, count: int) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(first_seed + i) for i in range(count)]


def judge_autoencoder(vae: Any, sources: Sequence[Source], judge: ResNet56) -> Figures:
    images = [source.image for source in sources]
    labels = [source.label for source in sources]
    pixels_NHWC = np.stack([np.asarray(image) for image in images])
    with torch.no_grad():
        latents = vae.encode(to_pixels(pixels_NHWC)).latents
        decoded = vae.decode(latents).sample.clamp(-1, 1)
    back_NHWC = ((decoded + 1) * 127.5).round().byte().permute(0, 2, 3, 1).numpy()
    figures = {
        "psnr_db": reconstruction_psnr_db(vae, pixels_NHWC),
        "scaled_latent_deviation": float(latents.std() * vae.config.scaling_factor),
        "real_recognised": _share_equal(classify(judge, images), labels),
        "reconstruction_recognised": _share_equal(
            classify(judge, [Image.fromarray(image) for image in back_NHWC]), labels
        ),
    }
    print("autoencoder: " + ", ".join(f"{name} {value:.3f}" for name, value in figures.items()))
    return figures


def judge_images(
    made: Sequence[Image.Image], sources: Sequence[Source], judge: ResNet56
) -> Figures:
    labels = [source.label for source in sources]
    found = classify(judge, made)
    by_class = {
        name: _share_equal([f for f, wanted in zip(found, labels, strict=True) if wanted == i], i)
        for i, name in enumerate(CLASS_NAMES)
    }
    captions = [source.caption for source in sources]
    return {
        "recognised": _share_equal(found, labels),
        "by_class": by_class,
        "attributes": attributes_obeyed(made, captions),
    }


def _share_equal(found: Sequence[int], wanted: Sequence[int] | int) -> float:
    return float(np.mean(np.asarray(found) == np.asarray(wanted)))


def attributes_obeyed(made: Sequence[Image.Image], captions: Sequence[str]) -> Figures:
    """{attribute: share of requests obeyed, share by chance, number of requests}.

    Chance is the share of the other images that show the value without it being requested, averaged
    over the same requests.
    """
    read = [read_attributes(image).named() for image in made]
    asked = [dict(MEANING[p] for p in c.split(SEPARATOR) if p in MEANING) for c in captions]
    obeyed: dict[str, list[tuple[float, float]]] = {}
    for wanted, seen in zip(asked, read, strict=True):
        for name, value in wanted.items():
            others = [
                r.get(name) == value
                for r, a in zip(read, asked, strict=True)
                if a.get(name) != value
            ]
            chance = float(np.mean(others)) if others else float("nan")
            obeyed.setdefault(name, []).append((float(seen.get(name) == value), chance))
    return {
        name: {
            "obeyed": float(np.mean([pair[0] for pair in pairs])),
            "chance": float(np.nanmean([pair[1] for pair in pairs])),
            "requests": len(pairs),
        }
        for name, pairs in sorted(obeyed.items())
    }


def report(key: str, figures: Figures, made: Sequence[Image.Image], grids: Path | None) -> None:
    classes = " ".join(f"{name} {share:.2f}" for name, share in figures["by_class"].items())
    print(f"{key}: recognised {figures['recognised']:.3f} ({classes})", flush=True)
    for name, row in figures["attributes"].items():
        shares = f"obeyed {row['obeyed']:.2f}, chance {row['chance']:.2f}"
        print(f"    {name}: {shares}, n {row['requests']}")
    if grids is not None:
        grids.mkdir(parents=True, exist_ok=True)
        each = len(made) // len(CLASS_NAMES)
        save_grid(
            made, min(each, 12), each, grids / f"{key.replace(', ', '-').replace(' ', '_')}.png"
        )


def as_markdown(figures: Figures) -> str:
    """The tables of the model card."""
    runs = {key: value for key, value in figures.items() if "by_class" in str(value)}
    lines = ["| images from | recognised | " + " | ".join(CLASS_NAMES) + " |"]
    lines.append("|---" * (2 + len(CLASS_NAMES)) + "|")
    for key, run in runs.items():
        shares = [run["recognised"], *run["by_class"].values()]
        lines.append(f"| {key} | " + " | ".join(f"{share:.2f}" for share in shares) + " |")
    names = sorted({name for run in runs.values() for name in run["attributes"]})
    lines += ["", "| images from | " + " | ".join(names) + " |", "|---" * (1 + len(names)) + "|"]
    for key, run in runs.items():
        if run["attributes"]:
            cells = [_obeyed_cell(run["attributes"].get(name)) for name in names]
            lines.append(f"| {key} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _obeyed_cell(row: Figures | None) -> str:
    return "" if row is None else f"{row['obeyed']:.2f} ({row['chance']:.2f})"


def save_grid(made: Sequence[Image.Image], columns: int, each: int, path: Path) -> None:
    """One row per class, at twice the size."""
    grid = Image.new("RGB", (columns * 64, len(CLASS_NAMES) * 64))
    for row in range(len(CLASS_NAMES)):
        for column in range(columns):
            image = made[row * each + column].resize((64, 64), Image.Resampling.BICUBIC)
            grid.paste(image, (column * 64, row * 64))
    grid.save(path)


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--slice", type=Path, required=True)
    parser.add_argument("--judge", type=Path, required=True)
    parser.add_argument("--to", type=Path, required=True, help="JSON file to write")
    parser.add_argument("--grids", type=Path, help="folder for sample sheets")
    parser.add_argument("--a-class", type=int, default=20, help="images of each class")
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--guidance", type=float, nargs="*", default=[2.0, 3.0, 7.5])
    parser.add_argument("--strength", type=float, nargs="*", default=[0.5, 0.75, 0.9])
    parser.add_argument("--threads", type=int, default=1)
    return parser.parse_args()


if __name__ == "__main__":
    main()
