"""Images made while training goes on: the same bits whoever is faster, stopped or not."""

from __future__ import annotations

import multiprocessing
import os
import signal
from dataclasses import replace
from pathlib import Path

import pytest

from gendataagent.config import RunConfig
from gendataagent.core import files
from gendataagent.core.errors import GenerationError
from gendataagent.core.run_folder import RunFolder
from gendataagent.generation.backends import Backends, build_backends
from gendataagent.generation.executors import ProcessExecutor
from gendataagent.runs.results import read_result
from gendataagent.runs.run import resume, run
from tests.paced import PacedFactory
from tests.runs.test_resume import Interrupting, command, kill_when, outcome

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def config(photo_folder: Path, tiny_pipeline_folder: Path) -> RunConfig:
    """Rounds begin after epochs 1 and 3, their images enter training after 3 and 5."""
    from tests.small_world import settings_for

    tree = settings_for(photo_folder, tiny_pipeline_folder).to_dict()
    tree["training"]["epochs"] = 7
    tree["agent"]["overlap"] = True
    tree["filter"]["snapshot_at"] = [0.2, 0.4]
    tree["generation"] |= {"feedback": "entropy", "feedback_scale": 0.06, "feedback_images": 4}
    return RunConfig.from_dict(tree)


def workers(config: RunConfig, seconds: float = 0.0) -> Backends:
    """Return backends with one worker that takes its time."""
    backends = build_backends(config)
    paced = PacedFactory(backends.generator, seconds)
    return replace(backends, generator=paced, executor=ProcessExecutor(1))


@pytest.fixture(scope="module")
def reference(config: RunConfig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run in one process, where training waits for the images."""
    path = tmp_path_factory.mktemp("reference") / "run"
    run(config, path)
    return path


@pytest.mark.parametrize("seconds", [0.0, 1.0])
def test_slow_and_fast_workers_make_the_same_run(
    seconds: float, config: RunConfig, reference: Path, tmp_path: Path
) -> None:
    result = run(config, tmp_path / "run", backends=workers(config, seconds))
    assert outcome(tmp_path / "run") == outcome(reference)
    assert [(record.epoch, record.enters) for record in result.rounds] == [(1, 3), (3, 5)]
    assert all("wait" in record.seconds for record in result.rounds)
    assert all("wait" not in record.seconds for record in read_result(reference).rounds)
    rows = files.read_jsonl(tmp_path / "run" / "metrics.jsonl")
    used = [row["synthetic_images"] for row in rows]
    assert used[:3] == [0, 0, 0]
    assert all(used[3:])
    if not seconds:
        return
    # two seconds of two batches, less what was done meanwhile
    first = result.rounds[0].seconds
    assert first["render"] > 2
    assert first["wait"] < first["render"]


@pytest.mark.slow
def test_the_lag_makes_another_run(config: RunConfig, reference: Path, tmp_path: Path) -> None:
    other = replace(config, agent=replace(config.agent, overlap=False))
    run(other, tmp_path / "run")
    assert outcome(tmp_path / "run")["classifier"] != outcome(reference)["classifier"]


@pytest.fixture(scope="module")
def events(config: RunConfig, tmp_path_factory: pytest.TempPathFactory) -> int:
    """How many progress events a run with a worker has."""
    counting = Interrupting()
    run(config, tmp_path_factory.mktemp("whole") / "run", backends=workers(config),
        progress=counting)  # fmt: skip
    return counting.events


@pytest.mark.slow
@pytest.mark.parametrize("share", [0.15, 0.3, 0.45, 0.6, 0.75, 0.9])
def test_interrupted_anywhere_then_resumed(
    share: float, events: int, config: RunConfig, reference: Path, tmp_path: Path
) -> None:
    with pytest.raises(KeyboardInterrupt):
        run(
            config, tmp_path / "run", backends=workers(config),
            progress=Interrupting(max(1, int(share * events))),
        )  # fmt: skip
    resume(tmp_path / "run", backends=workers(config))
    assert outcome(tmp_path / "run") == outcome(reference)


def in_flight(config: RunConfig, path: Path) -> RunFolder:
    """Run until an epoch is trained while the images of the first round are being made."""

    class Stop(Interrupting):
        def _event(self) -> None:
            if (path / "checkpoints").exists() and len(list((path / "checkpoints").iterdir())) > 1:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(config, path, backends=workers(config, 0.3), progress=Stop())
    folder = RunFolder.open(path)
    assert (folder.round(0) / "candidates.parquet").exists()
    assert not folder.round_is_done(0)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize(
    "lost", ["guide.safetensors", "candidates.parquet", "selected.parquet", "feedback.json"]
)
def test_lost_inputs_of_a_round_in_flight_are_made_again_by_training_again(
    lost: str, config: RunConfig, reference: Path, tmp_path: Path
) -> None:
    folder = in_flight(config, tmp_path / "run")
    (folder.round(0) / lost).unlink()
    resume(tmp_path / "run", backends=workers(config))
    assert outcome(tmp_path / "run") == outcome(reference)


def test_images_in_flight_are_found_again(
    config: RunConfig, reference: Path, tmp_path: Path
) -> None:
    folder = in_flight(config, tmp_path / "run")
    images = {path: path.stat().st_mtime_ns for path in folder.pool(0).glob("*.png")}
    resume(tmp_path / "run")  # in one process now
    assert all(path.stat().st_mtime_ns == then for path, then in images.items())
    assert outcome(tmp_path / "run") == outcome(reference)


@pytest.mark.slow
def test_killed_with_sigkill_in_flight(config: RunConfig, reference: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    tree = config.to_dict()
    tree["generation"]["workers"] = 1
    (tmp_path / "config.toml").write_text(RunConfig.from_dict(tree).to_toml())
    start = ["run", "--config", str(tmp_path / "config.toml"), "--out", str(out)]
    kill_when(start, out / "rounds" / "000" / "rendered.jsonl")
    kill_when(["run", "--resume", str(out)], out / "rounds" / "001" / "candidates.parquet")
    done = command(["run", "--resume", str(out)])
    assert done.wait(timeout=240) == 0
    assert outcome(out) == outcome(reference)


def test_a_worker_that_dies_is_said_at_the_next_epoch(config: RunConfig, tmp_path: Path) -> None:
    class Killing(Interrupting):
        def advance(self, amount: float = 1) -> None:
            if (tmp_path / "run" / "rounds" / "000" / "rendered.jsonl").exists():
                for child in multiprocessing.active_children():
                    os.kill(child.pid or 0, signal.SIGKILL)

    with pytest.raises(GenerationError, match="a generation worker died"):
        run(config, tmp_path / "run", backends=workers(config, 0.5), progress=Killing())
