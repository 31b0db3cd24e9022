"""The card (README.md) of an exported model."""

from __future__ import annotations

from pathlib import Path

from gendataagent.runs.exporting.markdown import bullets, card, text
from gendataagent.runs.exporting.model_check import Check
from gendataagent.runs.exporting.place import MADE_BY
from gendataagent.runs.exporting.preprocessing import PREPROCESSING_FILE
from gendataagent.runs.exporting.run_facts import RunFacts
from gendataagent.training.classifier import Classifier

CARD_FILE = "README.md"
_CLASSES_SHOWN = 100

ONNX_USE = """\
import json

import numpy as np
import onnxruntime
from PIL import Image, ImageOps

about = json.load(open("FOLDER/preprocessing.json", encoding="utf-8"))
session = onnxruntime.InferenceSession("FOLDER/model.onnx")
resize, crop = about["resize_px"], about["crop_px"]

image = ImageOps.exif_transpose(Image.open("photo.jpg")).convert("RGBA")
image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
width, height = (int(resize * side / min(image.size)) for side in image.size)
left, top = ((side - resize) // 2 + (resize - crop) // 2 for side in (width, height))
image = image.resize((width, height), Image.Resampling.BICUBIC)
image = image.crop((left, top, left + crop, top + crop))
pixels = np.asarray(image, dtype=np.float32).transpose(2, 0, 1)[None] / 255
logits = session.run(None, {"images": pixels})[0][0]
print(about["classes"][logits.argmax()])
"""
TORCHSCRIPT_USE = (
    ONNX_USE.replace("import onnxruntime\n", "import torch\n")
    .replace(
        'session = onnxruntime.InferenceSession("FOLDER/model.onnx")',
        'model = torch.jit.load("FOLDER/model.pt")',
    )
    .replace(
        'logits = session.run(None, {"images": pixels})[0][0]',
        "logits = model(torch.from_numpy(pixels))[0]",
    )
)
_USES = {
    "onnx": ("With onnxruntime, numpy and Pillow alone", ONNX_USE),
    "torchscript": ("With torch, numpy and Pillow alone", TORCHSCRIPT_USE),
}
_LIBRARIES = {"onnx": "onnx", "torchscript": "pytorch", "safetensors": "transformers"}


def model_card(
    to: str, classifier: Classifier, facts: RunFacts | None, check: Check, folder: Path
) -> str:
    """Return the card of a model that was written to `folder` in the format `to`."""
    names = [text(name) for name in classifier.class_names[:_CLASSES_SHOWN]]
    more = len(classifier.class_names) - len(names)
    front = {
        "library_name": _LIBRARIES[to],
        "pipeline_tag": "image-classification",
        "tags": ["image-classification", "gendataagent", to],
    }
    about = [
        f"{len(classifier.class_names)} classes: {', '.join(names)}"
        f"{f' and {more} more' if more else ''}. An image of anything else gets one of them too.",
        f"What is done to an image first: `{PREPROCESSING_FILE}`, where `classes` are the names "
        "of the outputs in order.",
        check.sentence,
    ]
    parts = [("", bullets(about)), ("Use", _use(to, folder))]
    if facts is not None:
        parts += [
            ("Training", _training(facts)),
            ("Results", facts.results()),
            ("Models that made the synthetic images", facts.models() if _made(facts) else ""),
            ("Terms", facts.terms()),
        ]
    return card(front, f"Image classifier, exported by {MADE_BY}", parts)


def _use(to: str, folder: Path) -> str:
    if to in _USES:
        words, code = _USES[to]
        return f"{words} (put the path of this folder for FOLDER):\n\n```python\n{code}```"
    # the README that `save_classifier` wrote, without its front matter and title
    written = (folder / CARD_FILE).read_text(encoding="utf-8")
    return written[written.index("```python") :].strip()


def _made(facts: RunFacts) -> int:
    return facts.result.images_made if facts.result else 0


def _training(facts: RunFacts) -> str:
    lines = []
    if facts.manifest is not None:
        counts = facts.manifest.images_per_split
        split = ", ".join(f"{count:,} {name}" for name, count in counts.items())
        lines.append(f"Data: {text(facts.data)}; real images: {split}.")
    lines.append(f"Started from: {text(facts.classifier)}.")
    if facts.result is not None:
        lines.append(
            f"Synthetic images made while training: {facts.result.images_made:,}, of which "
            f"{facts.result.images_kept:,} were trained on."
            if _made(facts)
            else "No synthetic images were used."
        )
        lines.append(f"Optimiser steps: {facts.result.optimizer_steps:,}.")
    if facts.run:
        lines.append(f"Run: `{facts.run}`, seed {facts.config.seed}.")
    return bullets(lines)
