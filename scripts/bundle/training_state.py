"""Checkpoints without pickle: safetensors for tensors, JSON for numbers."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file

OPTIMIZER = "optimizer"


def save_state(
    path: Path,
    tensors: Mapping[str, Mapping[str, torch.Tensor]],
    optimizer: torch.optim.Optimizer | None,
    numbers: Mapping[str, float | int | str],
) -> None:
    """Write named state dicts, AdamW moments and numbers into one file, atomically."""
    flat = {f"{group}/{name}": t for group, state in tensors.items() for name, t in state.items()}
    moments_of = optimizer.state_dict()["state"] if optimizer is not None else {}
    for index, moments in moments_of.items():
        flat.update(
            {f"{OPTIMIZER}/{index}/{name}": torch.as_tensor(t) for name, t in moments.items()}
        )
    flat = {name: t.detach().cpu().contiguous().clone() for name, t in flat.items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".tmp")
    save_file(flat, temporary, metadata={"numbers": json.dumps(dict(numbers))})
    with temporary.open("rb") as written:
        os.fsync(written.fileno())
    temporary.rename(path)


def load_state(path: Path) -> tuple[dict[str, dict[str, torch.Tensor]], dict[str, Any]]:
    """Read `save_state`'s file back: ({group: {name: tensor}}, numbers)."""
    groups: dict[str, dict[str, torch.Tensor]] = {}
    with safe_open(path, framework="pt") as file:
        numbers = json.loads(file.metadata()["numbers"])
        keys = file.keys()
        for key in keys:
            group, name = key.split("/", 1)
            groups.setdefault(group, {})[name] = file.get_tensor(key)
    return groups, numbers


def restore_optimizer(optimizer: torch.optim.Optimizer, saved: Mapping[str, torch.Tensor]) -> None:
    """Restore the AdamW moments of `save_state`; learning rates stay those of `optimizer`."""
    moments: dict[int, dict[str, torch.Tensor]] = {}
    for key, tensor in saved.items():
        index, name = key.split("/", 1)
        moments.setdefault(int(index), {})[name] = tensor
    groups = optimizer.state_dict()["param_groups"]
    optimizer.load_state_dict({"state": moments, "param_groups": groups})


@dataclass
class WallClock:
    """A learning-rate schedule over wall-clock time.

    Warm-up over `warm_up_steps`, constant until `decay_from` of the time budget is used, then
    linear decay to `floor` at the end.
    """

    finish: float
    warm_up_steps: int
    decay_from: float
    floor: float = 0.01
    start: float = field(default_factory=time.time)

    @property
    def used(self) -> float:
        """Share of the budget used, 0 to 1."""
        return min(1.0, (time.time() - self.start) / max(1.0, self.finish - self.start))

    @property
    def over(self) -> bool:
        return time.time() >= self.finish

    def factor(self, step: int) -> float:
        """The factor on the peak learning rate at `step`, counted from 0 in this run."""
        warm_up = min(1.0, (step + 1) / max(1, self.warm_up_steps))
        if self.used <= self.decay_from:
            return warm_up
        left = (1.0 - self.used) / (1.0 - self.decay_from)
        return warm_up * max(self.floor, left)


@dataclass
class ProgressBar:
    """A progress bar printed as one line every `every_s` seconds, for log files."""

    name: str
    clock: WallClock
    every_s: float = 30.0
    images: int = 0
    _last: float = field(default_factory=time.time)
    _last_images: int = 0

    def advance(self, images: int, **figures: float) -> None:
        self.images += images
        now = time.time()
        if now - self._last < self.every_s:
            return
        rate = (self.images - self._last_images) / (now - self._last)
        left = time.strftime("%H:%M:%S", time.gmtime(max(0.0, self.clock.finish - now)))
        filled = int(self.clock.used * 20)
        shown = " ".join(f"{name}={value:.4g}" for name, value in figures.items())
        bar = "#" * filled + "-" * (20 - filled)
        print(
            f"{self.name} [{bar}] {self.images} images {rate:.1f}/s left {left} {shown}", flush=True
        )
        self._last, self._last_images = now, self.images
