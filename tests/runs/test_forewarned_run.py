"""A run on classes that the bundled generator cannot draw: said beforehand, guarded, comparable."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from gendataagent.config import RunConfig
from gendataagent.config.run_config_file import read_run_config
from gendataagent.core import files
from gendataagent.core.run_folder import RunFolder
from gendataagent.runs.run import resume, run
from tests.runs.test_class_order import Saying
from tests.small_world import settings_for
from tests.tables import rows_of

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def finished(
    photo_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, list[str]]:
    """A run with the bundled generator, which knows two of the three classes, and what it said."""
    tree = settings_for(photo_folder, Path("tiny-sd")).to_dict()
    tree["training"]["steps_per_epoch"] = 0
    path, progress = tmp_path_factory.mktemp("forewarned") / "run", Saying()
    run(RunConfig.from_dict(tree), path, progress=progress)
    return path, progress.said


def test_it_is_said_before_anything_is_trained(finished: tuple[Path, list[str]]) -> None:
    said = finished[1]
    training = said.index("training the baseline first: the same training without the agent")
    before = " ".join(said[:training])
    assert "2 of your 3 classes are among the 10 that tiny-sd can draw" in before
    assert "of the others: d\u00f6g mit Leerzeichen." in before
    assert "agent.guard is on" in before
    assert "Only 19 optimiser steps" in before
    assert len([sentence for sentence in said if "expect harm" in sentence]) == 1


def test_the_guard_was_switched_on_for_good(finished: tuple[Path, list[str]]) -> None:
    path = finished[0]
    assert read_run_config(RunFolder.open(path)).agent.guard is True
    assert (path / "guard" / "outcome.json").is_file()
    asked = replace(read_run_config(RunFolder.open(path)).agent, guard="auto")
    again = replace(read_run_config(RunFolder.open(path)), agent=asked)
    assert resume(path, config=again).guard is not None  # what auto decided is no change


def test_the_baseline_takes_as_many_steps_in_every_epoch(
    finished: tuple[Path, list[str]],
) -> None:
    path = finished[0]
    taken = [
        [row["optimizer_steps"] for row in files.read_jsonl(folder / "metrics.jsonl")]
        for folder in (path, path / "baseline")
    ]
    assert taken[0] == taken[1] == [3, 6, 5, 5]


def test_the_prompts_use_the_generators_words(finished: tuple[Path, list[str]]) -> None:
    rows = rows_of(finished[0] / "rounds" / "000" / "candidates.parquet")
    assert {row["prompt"].split(",")[0].removeprefix("A photo of ") for row in rows} <= {
        "airplane", "ship", "d\u00f6g mit Leerzeichen",
    }  # fmt: skip
