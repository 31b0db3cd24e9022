"""The paper's method at full model size with random weights, for a machine without a model hub.

    python scripts/full_size/run_full_size.py --scratch /tmp/models --out full-size.json
    python scripts/full_size/run_full_size.py --scale tiny                  # seconds, on a CPU
    python scripts/full_size/run_full_size.py --device cpu --only sd --images 1 --lora-epochs 0

Builds the exact architectures (Stable Diffusion 1.5, BLIP-2 with OPT-2.7b, Llama-2-7b, ResNet-50),
saves them as save_pretrained does (about 24 GB in float16, removed at the end unless --scratch is
given) and runs one complete round with them on coloured noise: caption, LoRA, rewrite,
image-to-image, VoG, training. The images are noise; times and memory are real. Prints JSON: peak
memory and rate of each stage, and each failure. If all models together fail, each is tried alone.
"""

from __future__ import annotations

import argparse
import json
import platform
import shutil
import tempfile
import time
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from architectures import PX, SAVE, random_weights
from PIL import Image

from gendataagent.cli.console import ConsoleProgress
from gendataagent.config import RunConfig
from gendataagent.core.devices import resolve_device
from gendataagent.core.files import read_json, write_bytes
from gendataagent.core.memory import PeakMemory
from gendataagent.core.progress import SilentProgress
from gendataagent.core.run_folder import RunFolder
from gendataagent.data import load_data
from gendataagent.data.pixels import Pixels
from gendataagent.generation.adaptation import read_adaptation
from gendataagent.runs.run import run
from gendataagent.training.backbones import build_classifier
from gendataagent.training.trainer import Trainer

# part -> the setting that names its model, and the value without it
SETTING = {
    "sd": ("generation", "generator", "tiny-sd"),
    "blip2": ("prompting", "captioner", "none"),
    "llama": ("prompting", "rewriter", "none"),
    "resnet": ("classifier", "model", "tiny-resnet"),
}
CLASSES = ("tabby cat", "beagle")
REWRITES = 5  # [I]
TRAINING_BATCH = {"full": 128, "tiny": 8}  # 128: of each of the paper's GPUs [S]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the script; return 0 if nothing failed."""
    options = _options(arguments)
    report: dict[str, Any] = {
        "scale": options.scale,
        "machine": _machine(options.device),
        "images": options.images,
        "models": {},
        "failures": [],
        "stages": {},
    }
    scratch = Path(options.scratch or tempfile.mkdtemp(prefix="full-size-"))
    try:
        for part in options.parts:
            report["models"][part] = _save_model(part, scratch, options)
        _save_images(scratch / f"{options.scale}-images", options)
        found = _attempt(options.parts, scratch, options, report["failures"])
        if found is None and len(options.parts) > 1:
            alone = {p: _attempt([p], scratch, options, report["failures"]) for p in options.parts}
            found = {part: stages for part, stages in alone.items() if stages is not None}
        report["stages"] = found or {}
    finally:
        if options.scratch is None:
            shutil.rmtree(scratch, ignore_errors=True)
    text = json.dumps(report, indent=2)
    if options.out is not None:
        write_bytes(options.out, text.encode())
    print(text)
    return 1 if report["failures"] else 0


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    add = parser.add_argument
    add("--scale", choices=sorted(PX), default="full")
    add("--only", help="parts, of sd,blip2,llama,resnet; all by default")
    add("--images", type=int, default=200, help="synthetic images to make")
    add("--steps", type=int, default=30, help="scheduler steps")
    add("--strength", type=float, default=0.9)
    add("--lora-epochs", type=int, default=2, help="0 = no adaptation")
    add("--train-steps", type=int, default=10, help="optimiser steps of each of four epochs")
    add("--device", default="auto")
    add("--dtype", default="auto", help="of generator, captioner and language model")
    add("--scratch", type=Path, help="keep models and run here; models are reused")
    add("--out", type=Path, help="file for the JSON")
    add("--quiet", action="store_true")
    options = parser.parse_args(arguments)
    options.parts = (options.only or ",".join(SAVE)).split(",")
    if unknown := set(options.parts) - set(SAVE):
        parser.error(f"--only knows {', '.join(SAVE)}; got {', '.join(sorted(unknown))}")
    options.device = resolve_device(options.device)
    options.rewrites = min(REWRITES, options.images)
    options.sources = max(1, round(options.images / options.rewrites))
    return options


def _machine(device: str) -> dict[str, Any]:
    gpu = torch.cuda.get_device_properties(device) if device.startswith("cuda") else None
    return {
        "device": gpu.name if gpu else device,
        "memory_gib": round(gpu.total_memory / 2**30, 1) if gpu else None,
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "date": time.strftime("%Y-%m-%d"),
    }


def _save_model(part: str, scratch: Path, options: argparse.Namespace) -> dict[str, float]:
    """Save a model with random weights unless it is there; return its size and the seconds."""
    folder, begun = scratch / f"{options.scale}-{part}", time.perf_counter()
    if not (folder / "DONE").exists():
        shutil.rmtree(folder, ignore_errors=True)
        dtype = torch.float32 if options.scale == "tiny" else torch.float16
        with random_weights(options.device, dtype):
            SAVE[part](options.scale, folder)
        (folder / "DONE").touch()
        if options.device.startswith("cuda"):
            torch.cuda.empty_cache()
    size = sum(file.stat().st_size for file in folder.rglob("*.safetensors"))
    seconds = round(time.perf_counter() - begun, 1)
    return {"gigabytes": round(size / 1e9, 3), "seconds_to_save": seconds}


def _save_images(folder: Path, options: argparse.Namespace) -> None:
    """Save coloured noise as train, validation and test images of two classes."""
    random, side = np.random.default_rng(0), PX[options.scale]["generator"]
    # twice as many as are selected, so that selection has a choice
    for split, count in (("train", 2 * options.sources + 2), ("validation", 4), ("test", 4)):
        for number in range(count):
            path = folder / split / CLASSES[number % 2] / f"{number:04d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            rough = random.integers(0, 256, (8, 8, 3), dtype=np.uint8)
            image = Image.fromarray(rough).resize((side + 8, side), Image.Resampling.BICUBIC)
            image.save(path)


def _attempt(
    parts: Sequence[str], scratch: Path, options: argparse.Namespace, failures: list[Any]
) -> dict[str, Any] | None:
    """Return the cost of each stage with these parts; None after a failure, which is recorded."""
    out = scratch / "+".join(parts)
    shutil.rmtree(out, ignore_errors=True)
    try:
        config = settings(parts, scratch, options)
        run(config, out, progress=SilentProgress() if options.quiet else ConsoleProgress())
        return _stages(RunFolder.open(out), config, options.device)
    except Exception as error:  # any failure is a finding
        where = traceback.format_exc().splitlines()[-8:]
        sentence = f"{type(error).__name__}: {error}"
        failures.append({"parts": list(parts), "error": sentence, "where": where})
        return None


def settings(parts: Sequence[str], scratch: Path, options: argparse.Namespace) -> RunConfig:
    """Return the paper's settings, cut down to one round in four epochs."""
    px, with_sd = PX[options.scale], "sd" in parts
    tree: dict[str, Any] = {
        "device": options.device,
        "data": {"path": str(scratch / f"{options.scale}-images")},
        "classifier": {"size_px": px["classifier"] if "resnet" in parts else 32},
        "training": {
            "epochs": 4, "steps_per_epoch": options.train_steps, "learning_rate": 0.001,
            "batch_size": TRAINING_BATCH[options.scale], "augmentation": "resized-crop",
            "evaluate_every_epochs": 4,
        },
        "agent": {"rounds": 1, "first_round_epoch": 2},
        "selection": {"share": options.sources / (2 * options.sources + 2)},
        "prompting": {
            "rewrites": options.rewrites, "caption_cache": "off", "dtype": options.dtype,
        },
        "generation": {
            "num_inference_steps": options.steps if with_sd else 2,
            "strength": options.strength if with_sd else 0.75,
            "size_px": px["generator"] if with_sd else 0,
            "dtype": options.dtype, "batch_size": max(1, min(8, options.images)),
        },
        "adaptation": {
            "enabled": options.lora_epochs > 0 and with_sd, "epochs": max(1, options.lora_epochs),
            "measure_images": 0, "sample_every_epochs": 0,
        },
        "filter": {"snapshot_at": [0.25, 0.5]},
    }  # fmt: skip
    for part, (section, key, without) in SETTING.items():
        own = str(scratch / f"{options.scale}-{part}")
        tree[section][key] = own if part in parts else without
    return RunConfig.from_dict(tree)


def _stages(folder: RunFolder, config: RunConfig, device: str) -> dict[str, Any]:
    record = read_json(folder.round(0) / "record.json")
    made, seconds, peaks = record["made"], record["seconds"], record["peak_memory_mib"]
    items = {"select": 0, "caption": record["selected"], "rewrite": made, "render": made,
             "filter": made}  # fmt: skip
    stages = {name: _stage(n, seconds[name], peaks.get(name)) for name, n in items.items()}
    stages["render"]["refused"] = record["rejected"]
    stages["rewrite"]["replies"] = record["rewriting"]
    stages["filter"]["notes"] = record["notes"]
    if config.adaptation.enabled:
        done = read_adaptation(folder.adaptation)
        train_s = done.seconds.get("train", sum(done.seconds.values()))
        stages["adapt"] = _stage(done.steps, train_s, done.peak_memory_mib)
        stages["adapt"]["losses"] = done.losses
    return stages | {"train": _training(config, device)}


def _training(config: RunConfig, device: str) -> dict[str, Any]:
    """Return the cost of an epoch of the classifier on real images."""
    splits = load_data(config.data, seed=0)
    classifier = build_classifier(config.classifier, splits.class_names, seed=0, device=device)
    trainer = Trainer(classifier, config.training, seed=0)
    pixels = Pixels.from_images(splits.train, trainer.augmenter.stored_px)
    with PeakMemory(device) as peak:
        metrics = trainer.fit_epoch(1, pixels)
    return _stage(metrics.optimizer_steps * config.training.batch_size, metrics.seconds, peak.mib)


def _stage(items: int, seconds: float, peak_mib: float | None) -> dict[str, Any]:
    return {
        "items": items,
        "seconds": round(seconds, 3),
        "per_second": round(items / seconds, 4) if seconds > 0 and items else None,
        "peak_memory_gib": None if peak_mib is None else round(peak_mib / 1024, 3),
    }


if __name__ == "__main__":
    raise SystemExit(main())
