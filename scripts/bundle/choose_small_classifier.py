"""Choose the small classifier: accuracy and training time against the ResNet that was used before.

    python choose_small_classifier.py --data PACKAGE --out OUT --seeds 3

Trains every candidate by the recipe of the preset `demo` (20 epochs, 720 steps) on 50 real images a
class and measures it on the other CIFAR-10 training images of rows 40,000-49,999: none of them is
bundled for training, and what repeats a bundled or a test image is left out. The official test
images are not read. Every candidate is a stock class of transformers, so that its saved folder
loads without this package; the ResNet used before is not: its stem was patched. Prints a Markdown
table; continues after an interruption.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cifar10
import numpy as np
import pyarrow.parquet as pq
import torch
from PIL import Image
from torch import nn

from gendataagent.config import DataConfig, RunConfig, TrainingConfig
from gendataagent.config.presets import preset_settings
from gendataagent.core import files
from gendataagent.core.records import derive_seed
from gendataagent.data import load_data
from gendataagent.data.bundled import cifar10_parquet
from gendataagent.data.pixels import Pixels
from gendataagent.training.classifier import Classifier
from gendataagent.training.evaluation import evaluate
from gendataagent.training.trainer import Trainer

EARLIER = "tiny-resnet (before)"
TIMED_ROUNDS, STEPS_A_ROUND = 15, 6


@dataclass(frozen=True)
class Candidate:
    """A network to try: `build` draws it from torch's global generator."""

    name: str
    build: Callable[[], Any]
    size_px: int = 32


def earlier_resnet() -> Any:
    """The small ResNet used before: its stem is 3x3, stride 1, which ResNetConfig cannot say."""
    from transformers import ResNetConfig, ResNetForImageClassification

    config = ResNetConfig(
        embedding_size=32,
        hidden_sizes=[48, 96, 192],
        depths=[1, 1, 1],
        layer_type="basic",
        downsample_in_first_stage=True,
        num_labels=len(cifar10.CLASS_NAMES),
    )
    module = ResNetForImageClassification(config)
    stem = module.resnet.embedder
    stem.embedder.convolution = nn.Conv2d(3, 32, kernel_size=3, padding=1, bias=False)
    nn.init.kaiming_normal_(stem.embedder.convolution.weight, mode="fan_out", nonlinearity="relu")
    stem.pooler = nn.Identity()
    return module


def regnet(
    stem: int,
    widths: Sequence[int],
    *,
    depths: Sequence[int] = (1, 1, 1),
    group: int = 1024,
    layer: str = "x",
    halve_first: bool = False,
    px: int = 32,
) -> Candidate:
    """A RegNet; `group` = channels a group of its 3x3 convolutions (1024 = not grouped)."""

    def build() -> Any:
        from transformers import RegNetConfig, RegNetForImageClassification

        return RegNetForImageClassification(
            RegNetConfig(
                embedding_size=stem,
                hidden_sizes=list(widths),
                depths=list(depths),
                groups_width=group,
                layer_type=layer,
                downsample_in_first_stage=halve_first,
                num_labels=len(cifar10.CLASS_NAMES),
            )
        )

    sizes = "-".join(map(str, widths))
    grouped = f", groups of {group}" if group < max(widths) else ""
    deep = "" if set(depths) == {1} else f", depths {'-'.join(map(str, depths))}"
    return Candidate(f"RegNet-{layer} {stem}, {sizes}{deep}{grouped}, {px} px", build, px)


def resnet(widths: Sequence[int], *, stem: int, layer: str = "basic", px: int = 64) -> Candidate:
    """transformers' ResNet with its own 7x7 stem, on images shown larger."""

    def build() -> Any:
        from transformers import ResNetConfig, ResNetForImageClassification

        return ResNetForImageClassification(
            ResNetConfig(
                embedding_size=stem,
                hidden_sizes=list(widths),
                depths=[1] * len(widths),
                layer_type=layer,
                num_labels=len(cifar10.CLASS_NAMES),
            )
        )

    return Candidate(f"ResNet {stem}, {'-'.join(map(str, widths))}, {px} px", build, px)


CANDIDATES = (
    Candidate(EARLIER, earlier_resnet),
    regnet(32, (48, 96, 192)),
    regnet(48, (64, 128, 256)),
    regnet(32, (64, 128, 256), group=32),
    regnet(32, (48, 96, 192), layer="y"),
    regnet(32, (48, 96, 192), depths=(1, 2, 1)),
    regnet(32, (48, 96, 192), halve_first=True, px=64),
    regnet(32, (48, 96, 192), px=48),
    resnet((48, 96, 192), stem=32),
    resnet((40, 80, 160), stem=24),
    resnet((36, 72, 144), stem=24),
    resnet((48, 96, 192), stem=32, px=48),
    resnet((64, 128, 256), stem=32, px=48),
    resnet((56, 112, 224), stem=24, px=48),
)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="unpacked npm package")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--only", nargs="*", default=[""], help="candidates with this in the name")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    candidates = [
        c for c in CANDIDATES if c.name == EARLIER or any(part in c.name for part in arguments.only)
    ]
    others = other_images(cifar10.read_package(arguments.data))
    seeds = range(arguments.first_seed, arguments.first_seed + arguments.seeds)
    for seed in seeds:
        for candidate in candidates:
            row_file = arguments.out / f"{candidate.name.replace(' ', '_')}-{seed}.json"
            if not row_file.exists():
                row = train_and_measure(candidate, seed, others)
                files.write_json(row_file, row)
                print(candidate.name, seed, row, flush=True)
    cpu_ms = time_steps(candidates)
    print(table(candidates, seeds, arguments.out, cpu_ms))


class Others:
    """Held-out photographs as an image set."""

    def __init__(self, images_NHWC: cifar10.Uint8Array, labels: cifar10.IntArray) -> None:
        self._images_NHWC = images_NHWC
        self.labels = labels.tolist()
        self.ids = [f"other-{index}" for index in range(len(labels))]

    def __len__(self) -> int:
        return len(self.ids)

    def image(self, index: int) -> Image.Image:
        return Image.fromarray(self._images_NHWC[index])


def other_images(package: cifar10.Cifar10) -> Others:
    """Training images of rows 40,000-49,999, not bundled for training and no repeat of any such."""
    ids = pq.read_table(cifar10_parquet("train"), columns=["id"])["id"].to_pylist()
    taken = [int(image_id.rsplit("-", 1)[1]) for image_id in ids]
    rows = np.setdiff1d(cifar10.clean_rows(package, cifar10.USER_ROWS), taken)
    repeats = cifar10.near_duplicate_rows(package.train_NHWC[rows], package.train_NHWC[taken])
    rows = np.delete(rows, repeats)
    print(f"{len(rows)} photographs to measure on")
    return Others(package.train_NHWC[rows], package.train_labels[rows])


def demo() -> RunConfig:
    return RunConfig.from_dict(preset_settings("demo"))


def trainer_of(candidate: Candidate, training: TrainingConfig, seed: int) -> Trainer:
    """A trainer of a new network; the weights depend on the seed alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(seed, "classifier"))
        module = candidate.build().to(memory_format=torch.channels_last)
    classifier = Classifier(module, class_names=cifar10.CLASS_NAMES, size_px=candidate.size_px)
    return Trainer(classifier, training, seed=seed)


def train_and_measure(candidate: Candidate, seed: int, others: Others) -> dict[str, Any]:
    """Train by the demo's recipe; return how it does on the other photographs."""
    config = demo()
    data = DataConfig(path=config.data.path, train_per_class=config.data.train_per_class)
    trainer = trainer_of(candidate, config.training, seed)
    real = Pixels.from_images(load_data(data, seed=seed).train, trainer.augmenter.stored_px)
    started = time.process_time()
    steps = 0
    for epoch in range(1, config.training.epochs + 1):
        steps += trainer.fit_epoch(epoch, real).optimizer_steps
    seconds = time.process_time() - started
    measured = evaluate(
        trainer.classifier, Pixels.from_images(others, candidate.size_px), "validation"
    )
    return {
        "top1": measured.top1,
        "worst_class": measured.worst_class_accuracy,
        "loss": measured.loss,
        "steps": steps,
        "train_cpu_s": seconds,
    }


def time_steps(candidates: Sequence[Candidate]) -> dict[str, list[float]]:
    """Return ms of CPU time a training step, several of each network in turn, in one process."""
    config = demo()
    training = RunConfig.from_dict(
        {"training": {**preset_settings("demo")["training"], "steps_per_epoch": STEPS_A_ROUND}}
    ).training
    data = DataConfig(path=config.data.path, train_per_class=config.data.train_per_class)
    train = load_data(data, seed=0).train
    trainers = {c.name: trainer_of(c, training, 0) for c in candidates}
    pixels = {px: Pixels.from_images(train, px) for px in {c.size_px for c in candidates}}
    cpu_ms: dict[str, list[float]] = {name: [] for name in trainers}
    for number in range(TIMED_ROUNDS + 1):
        for candidate in candidates:
            started = time.process_time()
            trainers[candidate.name].fit_epoch(1, pixels[candidate.size_px])
            if number:  # the first round warms up
                spent = time.process_time() - started
                cpu_ms[candidate.name].append(1000 * spent / STEPS_A_ROUND)
    return cpu_ms


def table(
    candidates: Sequence[Candidate],
    seeds: Sequence[int],
    out: Path,
    cpu_ms: dict[str, list[float]],
) -> str:
    """The Markdown table: mean and standard deviation over seeds; median ms a step."""
    lines = [
        "| network | parameters | top-1 % | minus before, by seed | worst class % | ms a step | "
        "times before |",
        "|---|---|---|---|---|---|---|",
    ]
    rows = {
        c.name: [
            json.loads((out / f"{c.name.replace(' ', '_')}-{seed}.json").read_text())
            for seed in seeds
        ]
        for c in candidates
    }
    before = [row["top1"] for row in rows[EARLIER]]
    usual = statistics.median(cpu_ms[EARLIER])
    for candidate in candidates:
        top1 = [row["top1"] for row in rows[candidate.name]]
        worst = [row["worst_class"] for row in rows[candidate.name]]
        differences = " ".join(f"{100 * (a - b):+.1f}" for a, b in zip(top1, before, strict=True))
        parameters = sum(p.numel() for p in candidate.build().parameters())
        ms = statistics.median(cpu_ms[candidate.name])
        lines.append(
            f"| {candidate.name} | {parameters:,} | {mean_and_deviation(top1)} | "
            f"{'' if candidate.name == EARLIER else differences} | {mean_and_deviation(worst)} | "
            f"{ms:.1f} | {ms / usual:.2f} |"
        )
    return "\n".join(lines)


def mean_and_deviation(shares: Sequence[float]) -> str:
    deviation = f" ± {100 * statistics.stdev(shares):.1f}" if len(shares) > 1 else ""
    return f"{100 * statistics.mean(shares):.1f}{deviation}"


if __name__ == "__main__":
    main()
