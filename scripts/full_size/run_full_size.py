"""The paper's path at its true size with random weights, where no model hub can be reached.

    python scripts/full_size/run_full_size.py --scratch /tmp/models --out full-size.json
    python scripts/full_size/run_full_size.py --scale tiny                  # seconds, on a CPU
    python scripts/full_size/run_full_size.py --device cpu --only sd --images 1 --lora-epochs 0

Builds the exact architectures (Stable Diffusion 1.5, BLIP-2 with OPT-2.7b, Llama-2-7b, ResNet-50),
saves them as save_pretrained does (about 24 GB in float16, removed at the end unless --scratch is
given) and has `gendataagent.runs.run` do one whole round with them on coloured noise: caption,
LoRA, rewrite, image-to-image, VoG, training. What is made means nothing; what it takes does.
Prints JSON: peak memory and rate of each stage, and what broke. If the whole does not go
through, each model is tried alone.
"""

from __future__ import annotations

import argparse
import json
import platform
import shutil
import tempfile
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import architectures
import numpy as np
import torch
from architectures import Scale
from PIL import Image

from gendataagent.cli.console import ConsoleProgress
from gendataagent.config import RunConfig
from gendataagent.core.devices import resolve_device
from gendataagent.core.files import read_json, write_bytes
from gendataagent.core.memory import PeakMemory
from gendataagent.core.progress import Progress, SilentProgress
from gendataagent.core.run_folder import RunFolder
from gendataagent.data import load_data
from gendataagent.data.pixels import Pixels
from gendataagent.generation.adaptation import read_adaptation
from gendataagent.runs.run import run
from gendataagent.training.backbones import build_classifier
from gendataagent.training.trainer import Trainer

PARTS: dict[str, Callable[..., None]] = {
    "sd": architectures.save_diffusion,
    "blip2": architectures.save_captioner,
    "llama": architectures.save_language_model,
    "resnet": architectures.save_classifier,
}
SETTING = {
    "sd": ("generation", "generator"),
    "blip2": ("prompting", "captioner"),
    "llama": ("prompting", "rewriter"),
    "resnet": ("classifier", "model"),
}
WITHOUT = {"sd": "tiny-sd", "blip2": "none", "llama": "none", "resnet": "tiny-resnet"}
CLASSES = ("tabby cat", "beagle")
REWRITES = 5  # [I]
TRAINING_BATCH = 128  # of each of the paper's GPUs [S]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the script; return 0 if everything went through."""
    options = _options(arguments)
    scale = architectures.SCALES[options.scale]
    device = resolve_device(options.device)
    scratch = Path(options.scratch or tempfile.mkdtemp(prefix="full-size-"))
    progress: Progress = SilentProgress() if options.quiet else ConsoleProgress()
    report: dict[str, Any] = {
        "scale": options.scale,
        "machine": _machine(device),
        "images_asked_for": options.images,
        "models": {},
        "failures": [],
    }
    try:
        folders = _save_models(scale, scratch, options, device, report)
        report["stages"] = _whole_or_each_alone(
            scale, folders, scratch, options, device, report, progress
        )
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
    parser.add_argument("--scale", choices=sorted(architectures.SCALES), default="full")
    parser.add_argument("--only", help="parts, of sd,blip2,llama,resnet; all by default")
    parser.add_argument("--images", type=int, default=200, help="synthetic images to make")
    parser.add_argument("--steps", type=int, default=30, help="scheduler steps")
    parser.add_argument("--strength", type=float, default=0.9)
    parser.add_argument("--lora-epochs", type=int, default=2, help="0 = no adaptation")
    parser.add_argument("--train-steps", type=int, default=10, help="of an epoch, of four epochs")
    parser.add_argument("--device", default="auto")
    parser.add_argument(
        "--dtype", default="auto", help="of generator, captioner and language model"
    )
    parser.add_argument("--scratch", type=Path, help="keep models and run here; models are reused")
    parser.add_argument("--out", type=Path, help="file for the JSON")
    parser.add_argument("--quiet", action="store_true")
    options = parser.parse_args(arguments)
    options.parts = tuple((options.only or ",".join(PARTS)).split(","))
    if unknown := set(options.parts) - set(PARTS):
        parser.error(f"--only knows {', '.join(PARTS)}; got {', '.join(sorted(unknown))}")
    return options


def _machine(device: str) -> dict[str, Any]:
    on_gpu = device.startswith("cuda")
    return {
        "device": torch.cuda.get_device_name(device) if on_gpu else device,
        "memory_gib": (
            round(torch.cuda.get_device_properties(device).total_memory / 2**30, 1)
            if on_gpu
            else None
        ),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "date": time.strftime("%Y-%m-%d"),
    }


def _save_models(
    scale: Scale, scratch: Path, options: argparse.Namespace, device: str, report: dict[str, Any]
) -> dict[str, Path]:
    """Save the wanted parts with random weights, unless they are there; return their folders."""
    dtype = torch.float32 if options.scale == "tiny" else torch.float16
    folders = {}
    for name in options.parts:
        folder = scratch / f"{options.scale}-{name}"
        begun = time.perf_counter()
        if not (folder / "DONE").exists():
            shutil.rmtree(folder, ignore_errors=True)
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(0)
                PARTS[name](scale, folder, device=device, dtype=dtype)
            (folder / "DONE").touch()
        size = sum(f.stat().st_size for f in folder.rglob("*.safetensors"))
        seconds = round(time.perf_counter() - begun, 1)
        report["models"][name] = {"gigabytes": round(size / 1e9, 3), "seconds_to_save": seconds}
        folders[name] = folder
        if device.startswith("cuda"):
            torch.cuda.empty_cache()
    return folders


def _whole_or_each_alone(
    scale: Scale,
    folders: dict[str, Path],
    scratch: Path,
    options: argparse.Namespace,
    device: str,
    report: dict[str, Any],
    progress: Progress,
) -> dict[str, Any]:
    """Return what each stage took; if all parts together fail, of each part that works alone."""
    photos = scratch / f"{options.scale}-images"
    _save_images(photos, scale, options)
    attempts = [tuple(folders)]
    if len(folders) > 1:
        attempts += [(name,) for name in folders]
    stages: dict[str, Any] = {}
    for parts in attempts:
        label = "+".join(parts)
        try:
            found = _one_round(scale, {p: folders[p] for p in parts}, photos, scratch / label,
                               options, device, progress)  # fmt: skip
        except Exception as error:  # whatever breaks is what is looked for
            report["failures"].append(
                {
                    "parts": list(parts),
                    "error": f"{type(error).__name__}: {error}",
                    "where": traceback.format_exc().splitlines()[-8:],
                }
            )
            continue
        if len(parts) == len(folders):
            return found
        stages[label] = found
    return stages


def _save_images(folder: Path, scale: Scale, options: argparse.Namespace) -> None:
    """Save coloured noise as train, validation and test images of two classes."""
    random = np.random.default_rng(0)
    sources = _sources(options)
    side = scale.generator_px
    # twice as many as are selected, so that selecting means something
    for split, count in (("train", 2 * sources + 2), ("validation", 4), ("test", 4)):
        for number in range(count):
            path = folder / split / CLASSES[number % 2] / f"{number:04d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            rough = random.integers(0, 256, (8, 8, 3), dtype=np.uint8)
            image = Image.fromarray(rough).resize((side + 8, side), Image.Resampling.BICUBIC)
            image.save(path)


def _rewrites(options: argparse.Namespace) -> int:
    return min(REWRITES, int(options.images))


def _sources(options: argparse.Namespace) -> int:
    return max(1, round(int(options.images) / _rewrites(options)))


def settings(
    scale: Scale, folders: dict[str, Path], photos: Path, options: argparse.Namespace, device: str
) -> RunConfig:
    """Return the paper's settings, cut down to one round in four epochs."""
    tree: dict[str, Any] = {
        "device": device,
        "data": {"path": str(photos)},
        "classifier": {"size_px": scale.classifier_px if "resnet" in folders else 32},
        "training": {
            "epochs": 4,
            "steps_per_epoch": options.train_steps,
            "batch_size": TRAINING_BATCH if options.scale == "full" else 8,
            "learning_rate": 0.001,
            "augmentation": "resized-crop",
            "evaluate_every_epochs": 4,
        },
        "agent": {"rounds": 1, "first_round_epoch": 2},
        "selection": {"share": _sources(options) / (2 * _sources(options) + 2)},
        "prompting": {
            "rewrites": _rewrites(options), "caption_cache": "off", "rewrite_tries": 1,
            "dtype": options.dtype, "captioner": WITHOUT["blip2"], "rewriter": WITHOUT["llama"],
        },
        "generation": {
            "num_inference_steps": options.steps, "strength": options.strength,
            "dtype": options.dtype, "generator": WITHOUT["sd"],
            "batch_size": max(1, min(8, options.images)),  # more would be made for nothing
        },
        "adaptation": {
            "enabled": options.lora_epochs > 0 and "sd" in folders,
            "epochs": max(1, options.lora_epochs), "measure_images": 0, "sample_every_epochs": 0,
        },
        "filter": {"snapshot_at": [0.25, 0.5]},
    }  # fmt: skip
    tree["classifier"]["model"] = WITHOUT["resnet"]
    for part, folder in folders.items():
        section, key = SETTING[part]
        tree[section][key] = str(folder)
    if "sd" in folders:
        tree["generation"]["size_px"] = scale.generator_px
    else:
        tree["generation"] |= {"num_inference_steps": 2, "strength": 0.75}
    return RunConfig.from_dict(tree)


def _one_round(
    scale: Scale,
    folders: dict[str, Path],
    photos: Path,
    out: Path,
    options: argparse.Namespace,
    device: str,
    progress: Progress,
) -> dict[str, Any]:
    """Do a whole run with these parts; return seconds, rate and peak memory by stage."""
    config = settings(scale, folders, photos, options, device)
    shutil.rmtree(out, ignore_errors=True)
    run(config, out, progress=progress)
    stages = _of_the_round(RunFolder.open(out))
    if config.adaptation.enabled:
        done = read_adaptation(RunFolder.open(out).adaptation)
        stages["adapt"] = _stage(
            done.steps, done.seconds.get("train", sum(done.seconds.values())), done.peak_memory_mib
        )
        stages["adapt"]["losses"] = done.losses
    stages["train"] = _training(config, device)
    return stages


def _of_the_round(folder: RunFolder) -> dict[str, Any]:
    record = read_json(folder.round(0) / "record.json")
    items = {
        "select": 0, "caption": record["selected"], "rewrite": record["made"],
        "render": record["made"], "filter": record["made"],
    }  # fmt: skip
    stages: dict[str, Any] = {
        name: _stage(count, record["seconds"][name], record["peak_memory_mib"].get(name))
        for name, count in items.items()
    }
    stages["render"]["refused"] = record["rejected"]
    stages["rewrite"]["replies"] = record["rewriting"]
    stages["filter"]["notes"] = record["notes"]
    return stages


def _training(config: RunConfig, device: str) -> dict[str, Any]:
    """Return what an epoch of the classifier takes, real images alone."""
    splits = load_data(config.data, seed=0)
    classifier = build_classifier(config.classifier, splits.class_names, seed=0, device=device)
    trainer = Trainer(classifier, config.training, seed=0)
    pixels = Pixels.from_images(splits.train, trainer.augmenter.stored_px)
    with PeakMemory(device) as peak:
        metrics = trainer.fit_epoch(1, pixels)
    count = metrics.optimizer_steps * config.training.batch_size
    return _stage(count, metrics.seconds, peak.mib)


def _stage(items: int, seconds: float, peak_mib: float | None) -> dict[str, Any]:
    return {
        "items": items,
        "seconds": round(seconds, 3),
        "per_second": round(items / seconds, 4) if seconds > 0 and items else None,
        "peak_memory_gib": None if peak_mib is None else round(peak_mib / 1024, 3),
    }


if __name__ == "__main__":
    raise SystemExit(main())
