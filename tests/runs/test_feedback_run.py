"""Runs with feedback: interrupted, killed, in workers; the outcome is the same to the bit."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from gendataagent.config import RunConfig
from gendataagent.core import files
from gendataagent.runs.run import resume, run
from tests.runs.test_resume import Interrupting, command, kill_when, outcome

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def config(photo_folder: Path, tiny_pipeline_folder: Path) -> RunConfig:
    from tests.small_world import settings_for

    base = settings_for(photo_folder, tiny_pipeline_folder)
    generation = replace(
        base.generation, feedback="loss", feedback_scale=0.2, feedback_images=6, chunk_size=4
    )
    return replace(base, generation=generation)


@pytest.fixture(scope="module")
def reference(config: RunConfig, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, int]:
    path = tmp_path_factory.mktemp("reference") / "run"
    progress = Interrupting()
    run(config, path, progress=progress)
    return path, progress.events


def records(path: Path) -> list[object]:
    return [files.read_json(p) for p in sorted((path / "rounds").glob("*/feedback.json"))]


@pytest.mark.parametrize("share", [0.2, 0.35, 0.45, 0.55, 0.7, 0.9])
def test_interrupted_anywhere_then_resumed(
    reference: tuple[Path, int], config: RunConfig, tmp_path: Path, share: float
) -> None:
    path, events = reference
    with pytest.raises(KeyboardInterrupt):
        run(config, tmp_path / "run", progress=Interrupting(int(share * events)))
    resume(tmp_path / "run")
    assert outcome(tmp_path / "run") == outcome(path)
    assert records(tmp_path / "run") == records(path)


@pytest.mark.slow
def test_killed_in_the_middle_of_a_guided_round(
    reference: tuple[Path, int], config: RunConfig, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    (tmp_path / "config.toml").write_text(config.to_toml())
    kill_when(
        ["run", "--config", str(tmp_path / "config.toml"), "--out", str(out)],
        out / "rounds" / "000" / "feedback_probes.jsonl",
    )
    kill_when(["run", "--resume", str(out)], out / "rounds" / "001" / "feedback.json")
    assert command(["run", "--resume", str(out)]).wait(timeout=240) == 0
    assert outcome(out) == outcome(reference[0])


def test_workers_get_the_guide_and_make_the_same_images(
    reference: tuple[Path, int], config: RunConfig, tmp_path: Path
) -> None:
    generation = replace(config.generation, workers=1, chunk_size=16)
    run(replace(config, generation=generation), tmp_path / "run")
    assert outcome(tmp_path / "run") == outcome(reference[0])
