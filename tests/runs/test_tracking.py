"""A run followed in TensorBoard: its figures and images, a resume, a tracker that fails."""

from __future__ import annotations

import contextlib
import importlib.util
from dataclasses import replace
from pathlib import Path

import pytest

from gendataagent.config import RunConfig
from gendataagent.core import files
from gendataagent.core.errors import ConfigError
from gendataagent.core.inside import refuse_ways_out
from gendataagent.core.progress import SilentProgress
from gendataagent.runs.destinations import destinations
from gendataagent.runs.planning import make_plan
from gendataagent.runs.preflight import check_tracker
from gendataagent.runs.run import resume, run
from tests.runs.test_resume import AtBatch, outcome
from tests.small_world import photo_folder

pytestmark = pytest.mark.integration

__all__ = ["photo_folder"]


def followed(config: RunConfig, to: str = "tensorboard") -> RunConfig:
    return replace(config, tracking=replace(config.tracking, to=to, images=5))


def events_of(folder: Path):  # type: ignore[no-untyped-def]
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    read = EventAccumulator(str(folder / "tracking"), size_guidance={"images": 0, "scalars": 0})
    return read.Reload()


def values(folder: Path, tag: str) -> dict[int, float]:
    return {event.step: event.value for event in events_of(folder).Scalars(tag)}


def test_tensorboard_has_the_figures_and_images_of_the_run(
    small_config: RunConfig, tmp_path: Path
) -> None:
    run(small_config, tmp_path / "plain")
    run(followed(small_config), tmp_path / "run")
    assert outcome(tmp_path / "run") == outcome(tmp_path / "plain")  # it only looks on
    rows = files.read_jsonl(tmp_path / "run" / "metrics.jsonl")
    assert values(tmp_path / "run", "train/loss") == pytest.approx(
        {row["epoch"]: row["loss"] for row in rows}
    )
    records = [
        files.read_json(tmp_path / "run" / "rounds" / f"00{n}" / "record.json") for n in (0, 1)
    ]
    kept = values(tmp_path / "run", "round/kept")
    assert list(kept.values()) == [record["kept"] for record in records]
    evaluation = files.read_json(tmp_path / "run" / "evaluation.json")
    assert values(tmp_path / "run", "final/test top1") == {
        4: pytest.approx(evaluation["test"]["top1"])
    }
    images = events_of(tmp_path / "run").Images("round/kept images")
    assert len(images) == 2
    assert all(image.encoded_image_string.startswith(b"\x89PNG") for image in images)


def test_a_resumed_run_goes_on_in_the_same_place(small_config: RunConfig, tmp_path: Path) -> None:
    with contextlib.suppress(KeyboardInterrupt):
        run(followed(small_config), tmp_path / "run", progress=AtBatch(1, 1))
    resume(tmp_path / "run")
    assert sorted(values(tmp_path / "run", "train/loss")) == [1, 2, 3, 4]
    assert len(events_of(tmp_path / "run").Scalars("round/kept")) == 2


@pytest.mark.parametrize("to", ["wandb", "mlflow"])
def test_trackers_that_a_user_installs(
    to: str, small_config: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip(to, reason=f"pip install {to}")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_DIR", str(tmp_path / "theirs"))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/theirs.db")
    (tmp_path / "theirs").mkdir()
    monkeypatch.chdir(tmp_path)
    said: list[str] = []

    class Listening(SilentProgress):
        def say(self, text: str) -> None:
            said.append(text)

    with contextlib.suppress(KeyboardInterrupt):
        run(followed(small_config, to), tmp_path / "run", progress=AtBatch(1, 1))
    resume(tmp_path / "run", progress=Listening())
    assert not [text for text in said if "failed" in text]
    refuse_ways_out(tmp_path / "run")  # else no command would read the run
    if to == "wandb":
        assert len(list(tmp_path.glob("theirs/wandb/offline-run-*/*.wandb"))) == 2
        assert len(list(tmp_path.glob("theirs/**/media/images/**/*.png"))) >= 5
    else:
        import mlflow

        client = mlflow.MlflowClient()
        (experiment,) = client.search_experiments(filter_string="name = 'gendataagent'")
        (followed_run,) = client.search_runs([experiment.experiment_id])
        history = client.get_metric_history(followed_run.info.run_id, "train/loss")
        assert sorted({metric.step for metric in history}) == [1, 2, 3, 4]
        assert len(client.list_artifacts(followed_run.info.run_id, "images")) >= 5


def test_a_tracker_that_fails_costs_the_tracking_not_the_run(
    small_config: RunConfig, tmp_path: Path
) -> None:
    said: list[str] = []

    class Listening(SilentProgress):
        def say(self, message: str) -> None:
            said.append(message)

        def stage(self, *given, **named):  # type: ignore[no-untyped-def]
            (tmp_path / "run" / "tracking").touch()  # a file where its folder should be
            return super().stage(*given, **named)

    run(followed(small_config), tmp_path / "run", progress=Listening())
    failed = [one for one in said if "the run goes on without it" in one]
    assert len(failed) == 1
    assert failed[0].startswith("tensorboard failed")


def test_a_tracker_that_is_not_installed_is_named_before_anything_is_spent(
    small_config: RunConfig, tmp_path: Path
) -> None:
    if importlib.util.find_spec("mlflow") is not None:
        pytest.skip("mlflow is installed here")
    with pytest.raises(ConfigError, match="pip install mlflow; or set"):
        run(followed(small_config, "mlflow"), tmp_path / "run")
    with pytest.raises(ConfigError, match="pip install mlflow; or set"):
        make_plan(followed(small_config, "mlflow"))
    check_tracker(small_config)


def test_what_is_sent_to_a_server_is_said(small_config: RunConfig) -> None:
    (place,) = destinations(followed(small_config, "wandb"))
    assert place.sentence == (
        "metrics, settings and some generated images are sent to wandb (tracking.to)"
    )
    assert destinations(followed(small_config)) == []
