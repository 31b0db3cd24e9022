"""What every test may use: a minimal Stable Diffusion on disk, and no way to the network."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

# Set before any library that reads them is imported: nothing in the tests may ask a model hub.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_DATASETS_OFFLINE"] = "1"


pytest_plugins = ["tests.small_world", "tests.tiny_networks"]


@pytest.fixture(scope="session")
def tiny_pipeline_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A minimal Stable Diffusion with random weights, as `save_pretrained` leaves it."""
    from tests.tiny_models import save_tiny_pipeline

    return save_tiny_pipeline(tmp_path_factory.mktemp("models") / "tiny-random-sd")
