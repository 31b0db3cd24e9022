"""A minimal experiment: three arms that differ in one thing each, one seed."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest

from gendataagent.config.settings import merged
from gendataagent.experiments import Arm, Benchmark, run_experiment
from tests.small_world import photo_folder, settings_for

__all__ = ["photo_folder"]

# Tests of scripts/evidence import them by name, as they import each other.
sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "scripts" / "evidence"))


@pytest.fixture(scope="session")
def benchmark(photo_folder: Path, tiny_pipeline_folder: Path) -> Benchmark:
    """Three arms, of which the last two need the same images and filter them differently."""
    tree = settings_for(photo_folder, tiny_pipeline_folder).to_dict()
    tree["training"]["checkpoint_every_epochs"] = 3
    own = {"agent": {"first_round_epoch": 1}, "filter": {"drop_share": 0.4}}
    at_random = merged(own, {"filter": {"by": "random"}})
    arms = (
        Arm(name="only-real", strategy="only-real"),
        Arm(name="vog-only", strategy="vog-only", settings=own),
        Arm(name="at-random", strategy="vog-only", settings=at_random),
    )
    return Benchmark(
        name="small", about="a test", base=tree, arms=arms, baseline="only-real", seeds=(7,)
    )


@pytest.fixture(scope="session")
def finished(benchmark: Benchmark, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the finished experiment, read-only."""
    out = tmp_path_factory.mktemp("finished") / "exp"
    run_experiment(benchmark, out, jobs=1)
    return out


@pytest.fixture
def out(finished: Path, tmp_path: Path) -> Path:
    """A copy of it that a test may change."""
    return Path(shutil.copytree(finished, tmp_path / "exp"))
