"""The generator of a run is that of the values written to its settings."""

from __future__ import annotations

from pathlib import Path

import pytest

from gendataagent.config import RunConfig
from gendataagent.config.run_config_file import read_run_config
from gendataagent.core.run_folder import RunFolder
from gendataagent.generation.diffusion.generator import DiffusionGenerator
from gendataagent.runs.run import run

pytestmark = pytest.mark.integration


def test_images_are_made_with_the_batch_that_is_written(
    small_config: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Backends are built before the data is read; a round's size decides the batch after it."""
    sizes: set[tuple[int, object]] = set()
    call = DiffusionGenerator._run_pipeline

    def watching(self: DiffusionGenerator, requests: list[object]) -> object:
        sizes.add((self.batch_size, self._dtype))
        return call(self, requests)  # type: ignore[arg-type]

    monkeypatch.setattr(DiffusionGenerator, "_run_pipeline", watching)
    config = RunConfig.from_dict(
        {
            **small_config.to_dict(),
            "prompting": {"rewrites": 1},
            "training": {"epochs": 3},
            "generation": {**small_config.to_dict()["generation"], "batch_size": "auto"},
        }
    )
    run(config, tmp_path / "run")
    written = read_run_config(RunFolder.open(tmp_path / "run")).generation
    assert written.batch_size == 8  # six images a round
    assert {(size, str(dtype)) for size, dtype in sizes} == {(8, f"torch.{written.dtype}")}
