"""The batch size that the settings leave open: by model and memory, and tried on a GPU."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from gendataagent.core import memory
from gendataagent.core.hub import ModelSource
from gendataagent.core.protocols import Rendered, RenderRequest
from gendataagent.generation.diffusion import DiffusionFactory
from gendataagent.generation.diffusion.batch_trial import tried_batch
from gendataagent.generation.diffusion.batching import (
    UNKNOWN,
    filled_by,
    largest_batch,
)
from gendataagent.generation.tiny.model import model_folder

GIB = 2**30


def source(folder: Path | str) -> ModelSource:
    return ModelSource(
        setting="generation.generator", kind="", name=str(folder), index_file="model_index.json"
    )


def save_configs(folder: Path, vae: object, network: object) -> Path:
    """Write what the estimate reads of a pipeline: two configurations, no weights."""
    for name, tree in (("vae", vae), ("unet", network)):
        (folder / name).mkdir(parents=True)
        (folder / name / "config.json").write_text(json.dumps(tree))
    return folder


def batch_of(
    folder: Path | str, *, gib: float, monkeypatch: pytest.MonkeyPatch, **changes: Any
) -> int:
    monkeypatch.setattr(memory, "total_bytes", lambda device: int(gib * GIB))
    settings: dict[str, Any] = {
        "size_px": 0, "dtype": "float16", "device": "cuda", "gradients": False, **changes,
    }  # fmt: skip
    return largest_batch(source(folder), **settings)


@pytest.fixture
def sd15(tmp_path: Path) -> Path:
    vae = {"block_out_channels": [128, 256, 512, 512]}
    return save_configs(tmp_path / "sd15", vae, {"sample_size": 64})


def test_a_small_model_gets_the_most(monkeypatch: pytest.MonkeyPatch) -> None:
    folder = model_folder()
    assert batch_of(folder, gib=8, device="cpu", dtype="float32", monkeypatch=monkeypatch) == 32
    assert batch_of(folder, gib=8, monkeypatch=monkeypatch) == 64


@pytest.mark.parametrize(
    ("gib", "changes", "batch"),
    [
        (141, {}, 16),  # kernels count 512 x 512 x 256 x 32 elements in 32 bits
        (141, {"size_px": 256}, 64),
        (8, {}, 4),
        (8, {"dtype": "float32"}, 2),
        (8, {"gradients": True}, 1),
        (0.1, {}, 1),
        (64, {"device": "cpu", "dtype": "float32"}, 8),
        (16, {"device": "cpu", "dtype": "bfloat16"}, 4),
    ],
)
def test_memory_and_size_bound_a_large_model(
    gib: float, changes: dict[str, object], batch: int, sd15: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert batch_of(sd15, gib=gib, monkeypatch=monkeypatch, **changes) == batch


@pytest.mark.parametrize(
    ("vae", "network"),
    [
        ({}, {"sample_size": 64}),
        ({"block_out_channels": []}, {"sample_size": 64}),
        ({"block_out_channels": ["a", 0]}, {"sample_size": 64}),
        ({"block_out_channels": 128}, {"sample_size": 64}),
        ({"block_out_channels": [128]}, {"sample_size": [64, 64]}),
        ([1, 2], "text"),
    ],
)
def test_what_cannot_be_read_is_unknown(vae: object, network: object, tmp_path: Path) -> None:
    folder = save_configs(tmp_path / "model", vae, network)
    settings: dict[str, Any] = {
        "size_px": 0,
        "dtype": "float32",
        "device": "cpu",
        "gradients": False,
    }
    assert largest_batch(source(folder), **settings) == UNKNOWN
    assert largest_batch(source("nobody/nothing"), **settings) == UNKNOWN
    assert largest_batch(source(tmp_path / "missing"), **settings) == UNKNOWN


def test_a_batch_is_no_larger_than_what_fills_it() -> None:
    assert [filled_by(images) for images in (0, 1, 2, 3, 18, 500)] == [1, 1, 2, 4, 32, 512]


def test_a_batch_is_halved_until_it_leaves_room(
    tiny_pipeline_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    factory = DiffusionFactory(
        model=str(tiny_pipeline_folder), size_px=32, batch_size=8, dtype="float32"
    )
    used = iter([90.0, 85.0, 70.0])

    class Peak:
        def __init__(self, device: str) -> None:
            self.mib = next(used)

        def __enter__(self) -> Peak:
            return self

        def __exit__(self, *_: object) -> None: ...

    monkeypatch.setattr(memory, "total_bytes", lambda device: 100 * memory.MIB)
    monkeypatch.setattr(memory, "PeakMemory", Peak)
    assert tried_batch(factory) == 2
    assert next(used, None) is None


def test_a_batch_that_ran_out_of_memory_is_tried_smaller(
    tiny_pipeline_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    from gendataagent.generation.diffusion.generator import DiffusionGenerator

    run = DiffusionGenerator._run_pipeline

    def short(self: DiffusionGenerator, requests: Sequence[RenderRequest]) -> list[Rendered]:
        if self.batch_size > 2:
            raise torch.OutOfMemoryError
        return run(self, requests)

    monkeypatch.setattr(DiffusionGenerator, "_run_pipeline", short)
    factory = DiffusionFactory(
        model=str(tiny_pipeline_folder), size_px=32, batch_size=8, dtype="float32"
    )
    assert tried_batch(factory) == 2
