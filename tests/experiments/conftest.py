"""An experiment as small as can be: three arms that differ in one thing each, one seed."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from gendataagent.config.settings import merged
from gendataagent.experiments import Arm, Bench, run_experiment
from tests.small_world import photo_folder, settings_for

__all__ = ["photo_folder"]


@pytest.fixture(scope="session")
def bench(photo_folder: Path, tiny_pipeline_folder: Path) -> Bench:
    """Three arms, of which the last two ask for the same images and filter them differently."""
    tree = settings_for(photo_folder, tiny_pipeline_folder).to_dict()
    tree["training"]["checkpoint_every_epochs"] = 3
    own = {"agent": {"first_round_epoch": 1}, "filter": {"drop_share": 0.4}}
    at_random = merged(own, {"filter": {"by": "random"}})
    arms = (
        Arm(name="only-real", strategy="only-real"),
        Arm(name="vog-only", strategy="vog-only", settings=own),
        Arm(name="at-random", strategy="vog-only", settings=at_random),
    )
    return Bench(
        name="small", about="a test", base=tree, arms=arms, baseline="only-real", seeds=(7,)
    )


@pytest.fixture(scope="session")
def finished(bench: Bench, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the experiment, run; only to be read."""
    out = tmp_path_factory.mktemp("finished") / "exp"
    run_experiment(bench, out, jobs=1)
    return out


@pytest.fixture
def out(finished: Path, tmp_path: Path) -> Path:
    """A copy of it that may be changed."""
    return Path(shutil.copytree(finished, tmp_path / "exp"))
