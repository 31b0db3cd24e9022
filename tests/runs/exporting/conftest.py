"""One finished run whose images are stored with a margin around what the classifier sees."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from gendataagent.runs.run import run
from tests.small_world import settings_for


@pytest.fixture(scope="session")
def exported_run(
    photo_folder: Path, tiny_pipeline_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A finished run with synthetic images."""
    config = settings_for(photo_folder, tiny_pipeline_folder)
    config = replace(config, training=replace(config.training, augmentation="resized-crop"))
    path = tmp_path_factory.mktemp("exported") / "run"
    run(config, path)
    return path
