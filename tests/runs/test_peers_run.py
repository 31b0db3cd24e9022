"""The mechanisms of other papers in complete runs, stopped and resumed to the bit."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from gendataagent.agent.pool import Pool
from gendataagent.config import RunConfig
from gendataagent.config.strategies import apply
from gendataagent.core import files
from gendataagent.core.records import Candidate
from gendataagent.core.run_folder import RunFolder
from gendataagent.runs.run import resume, run
from tests.runs.test_resume import Interrupting, outcome

pytestmark = pytest.mark.integration

PHOTOGRAPHS = 24


def prepared(config: RunConfig, name: str) -> RunConfig:
    """Return the settings of a strategy, with steps enough for its least strength."""
    config = replace(config, generation=replace(config.generation, num_inference_steps=8))
    return apply(config, name)


def candidates_of(path: Path) -> list[Candidate]:
    return list(Pool(RunFolder.open(path), ("a", "b", "c")).candidates(0))


def metrics_of(path: Path) -> list[dict[str, float]]:
    return files.read_jsonl(path / "metrics.jsonl")


def stopped_and_resumed(config: RunConfig, path: Path, events: int) -> Path:
    """Run, stop at half of the events and resume."""
    with pytest.raises(KeyboardInterrupt):
        run(config, path, progress=Interrupting(events // 2))
    resume(path)
    return path


def test_da_fusion(small_config: RunConfig, tmp_path: Path) -> None:
    config = prepared(small_config, "da-fusion")
    training = replace(config.training, steps_per_epoch=0)
    config = replace(config, training=training)
    progress = Interrupting()
    run(config, tmp_path / "run", progress=progress)
    made = candidates_of(tmp_path / "run")
    assert Counter(c.source_id for c in made).most_common(1)[0][1] == 1
    assert len(made) == PHOTOGRAPHS
    assert {c.strength for c in made} == {0.25, 0.5, 0.75, 1.0}
    assert {c.prompt for c in made} == {f"A photo of {c.class_name}" for c in made}
    assert all(c.kept for c in made)
    for row in metrics_of(tmp_path / "run"):
        assert (row["real_images"], row["synthetic_images"]) == (PHOTOGRAPHS, PHOTOGRAPHS)
        assert row["optimizer_steps"] == PHOTOGRAPHS // config.training.batch_size
    again = stopped_and_resumed(config, tmp_path / "again", progress.events)
    assert outcome(again) == outcome(tmp_path / "run")
