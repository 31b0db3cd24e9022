"""A handful of images, and pipelines with random weights of the kinds that can be adapted."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from gendataagent.data import LabelledImages
from gendataagent.generation.diffusion import DiffusionFactory
from gendataagent.generation.diffusion.loading import load_pipeline
from tests.generation.adaptation.tiny_sdxl import save_tiny_sdxl

CLASSES = ("cat", "ship")


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def make_images(count: int, *, size: tuple[int, int] = (32, 32), seed: int = 0) -> LabelledImages:
    """Smooth coloured images of two classes, `size` = (width, height)."""
    rng = np.random.default_rng(seed)
    images = []
    for _ in range(count):
        coarse = Image.fromarray(rng.integers(0, 256, (4, 4, 3), dtype=np.uint8))
        images.append(coarse.resize(size, Image.Resampling.BICUBIC))
    return LabelledImages.from_images(
        images,
        [index % 2 for index in range(count)],
        class_names=CLASSES,
        ids=[f"image-{seed}-{index}" for index in range(count)],
    )


def load(folder: Path) -> Any:
    return load_pipeline(DiffusionFactory(model=str(folder)), torch.float32)


@pytest.fixture(scope="session")
def loaded(tiny_pipeline_folder: Path) -> Any:
    return load(tiny_pipeline_folder)


@pytest.fixture
def pipeline(loaded: Any) -> Any:
    """A Stable Diffusion that predicts noise, a new one for each test."""
    return copy.deepcopy(loaded)


@pytest.fixture(scope="session")
def sdxl_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_sdxl(tmp_path_factory.mktemp("models") / "tiny-random-sdxl")
