"""Follows a run in an experiment tracker, through accelerate's trackers.

A tracker is an onlooker: what it cannot do is said once, and the run goes on without it.
"""

from __future__ import annotations

import contextlib
import functools
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from gendataagent.agent.pool import Pool
from gendataagent.config import RunConfig
from gendataagent.config.settings import iterate_settings
from gendataagent.config.tracking import NO_TRACKER
from gendataagent.core import files
from gendataagent.core.errors import GenDataAgentError
from gendataagent.core.png import opened
from gendataagent.core.progress import Progress
from gendataagent.core.records import Candidate, EpochMetrics, RoundRecord
from gendataagent.core.rows import read_record
from gendataagent.core.run_folder import RunFolder
from gendataagent.core.text import reason_of

SIDE_PX = 256  # images are shown at most as large
_ID_FILE = "run_id.txt"


class Tracking:
    """Tells a tracker of epochs, rounds and results; after a failure it tells nothing more.

    Args:
        class_names: in label order, to read the pool.
    """

    def __init__(
        self,
        config: RunConfig,
        folder: RunFolder,
        class_names: Sequence[str],
        progress: Progress,
    ) -> None:
        self._settings, self._folder, self._progress = config.tracking, folder, progress
        self._class_names = class_names
        self._told = set(self._finished_rounds()) if self._is_resumed() else set[int]()
        self._tracker: Any = None
        if self._settings.to != NO_TRACKER:
            self._attempt(lambda: self._open(config))

    def epoch(self, metrics: EpochMetrics) -> None:
        """Tell of a trained epoch, and of the rounds that were finished since the last one."""
        if self._tracker is None:
            return
        values = {
            f"train/{name}": value
            for name, value in asdict(metrics).items()
            if name != "epoch" and value is not None
        }
        self._attempt(lambda: self._tracker.log(values, step=metrics.epoch))
        for number in self._finished_rounds():
            if number not in self._told:
                self._told.add(number)
                if self._tracker is not None:
                    self._attempt(functools.partial(self._round, number, metrics.epoch))

    def result(self, evaluations: Mapping[str, Any], epoch: int) -> None:
        """Tell of the final evaluation: split -> measures."""
        if self._tracker is None:
            return
        values = {
            f"final/{split} {name}": measured[name]
            for split, measured in evaluations.items()
            for name in ("top1", "worst_class_accuracy", "worst_case_disparity", "ece", "loss")
            if isinstance(measured.get(name), int | float)
        }
        self._attempt(lambda: self._tracker.log(values, step=epoch))

    def close(self) -> None:
        """End the tracker's run; a resumed run opens it again."""
        if self._tracker is not None:
            self._attempt(self._tracker.finish)
        self._tracker = None

    def _attempt(self, action: Callable[[], Any]) -> None:
        """Do something with the tracker; if that fails, say so and do nothing more with it."""
        try:
            action()
        except Exception as error:
            self._tracker = None
            self._progress.say(
                f"{self._settings.to} failed, so the run goes on without it: {reason_of(error)}"
            )

    def _open(self, config: RunConfig) -> None:
        from accelerate.tracking import LOGGER_TYPE_TO_CLASS

        name = self._settings.to
        options = _OPTIONS[name](self._settings.project, self._name, self._run_id(), self._place)
        tracker = LOGGER_TYPE_TO_CLASS[name](**options)
        tracker.main_process_only = False  # only the process that runs the agent is here
        if hasattr(tracker, "start"):  # before accelerate 1.8 the constructor did
            tracker.start()
        self._tracker = tracker
        if not self._told and not self._is_resumed():
            rows = iterate_settings(config)
            known = {row.key: _plain(row.value) for row in rows if row.value != row.default}
            tracker.store_init_configuration(known)
        self._mark_started()

    def _round(self, number: int, epoch: int) -> None:
        record = read_record(RoundRecord, self._folder.round(number) / "record.json")
        values: dict[str, float] = {
            "round/number": record.round + 1,
            "round/selected": record.selected,
            "round/made": record.made,
            "round/kept": record.kept,
            "round/seconds": sum(record.seconds.values()),
            **{f"round/rejected/{reason}": n for reason, n in record.rejected.items()},
        }
        self._tracker.log(values, step=epoch)
        images = self._images(number)
        if images:
            _LOG_IMAGES[self._settings.to](self._tracker, "round/kept images", images, epoch)

    def _images(self, number: int) -> list[Image.Image]:
        """Return some kept images of a round, one of each class in turn."""
        pool = Pool(self._folder, self._class_names)
        of_class: dict[int, list[Candidate]] = {}
        for candidate in pool.candidates(number):
            if candidate.kept:
                of_class.setdefault(candidate.label, []).append(candidate)
        turns = sorted(
            (turn, label, candidate.id, candidate)
            for label, group in of_class.items()
            for turn, candidate in enumerate(group[: self._settings.images])
        )
        shown = []
        for *_, candidate in turns[: self._settings.images]:
            with opened(pool.image_path(candidate)) as whole:
                image = whole.convert("RGB")
            image.thumbnail((SIDE_PX, SIDE_PX))
            shown.append(image)
        return shown

    def _finished_rounds(self) -> list[int]:
        paths = sorted(self._folder.path.glob("rounds/[0-9]*"))
        return [int(p.name) for p in paths if self._folder.round_is_done(int(p.name))]

    @property
    def _place(self) -> Path:
        return self._folder.path / "tracking"

    @property
    def _name(self) -> str:
        path = self._folder.path.resolve()
        return f"{path.parent.name}-{path.name}" if path.name == "baseline" else path.name

    def _is_resumed(self) -> bool:
        return (self._place / _ID_FILE).is_file()

    def _run_id(self) -> str:
        """Return the id by which a tracker knows this run, the same at every resume."""
        path = self._place / _ID_FILE
        return path.read_text().strip() if path.is_file() else uuid.uuid4().hex

    def _mark_started(self) -> None:
        run_id = self._run_id()
        if self._settings.to == "mlflow":  # it chooses its own
            run_id = self._tracker.tracker.info.run_id
        if not self._is_resumed():
            files.write_bytes(self._place / _ID_FILE, f"{run_id}\n".encode())


def _plain(value: Any) -> Any:
    """Return a setting as every tracker takes it."""
    return value if isinstance(value, str | int | float | bool) else str(value)


Options = Callable[[str, str, str, Path], dict[str, Any]]
"""(project, name of the run, its id, RUN/tracking) -> arguments of accelerate's tracker."""


def _for_mlflow(project: str, name: str, run_id: str, place: Path) -> dict[str, Any]:
    known = (place / _ID_FILE).is_file()
    return {"experiment_name": project, "run_name": name, "run_id": run_id if known else None}


_OPTIONS: Mapping[str, Options] = {
    "tensorboard": lambda _project, _name, _id, place: {
        "run_name": ".", "logging_dir": str(place)
    },
    # It links its logs to a cache of its own, so its folder must not be in the run (`core.inside`).
    "wandb": lambda project, name, run_id, _place: {
        "run_name": project, "name": name, "id": run_id, "resume": "allow"
    },
    "mlflow": _for_mlflow,
    "trackio": lambda project, name, _id, _place: {
        "run_name": project, "name": name, "resume": "allow"
    },
}  # fmt: skip


def _to_tensorboard(tracker: Any, title: str, images: list[Image.Image], step: int) -> None:
    side = max(max(image.size) for image in images)
    batch_NHWC = np.stack([np.asarray(image.resize((side, side))) for image in images])
    tracker.log_images({title: batch_NHWC}, step=step, dataformats="NHWC")


def _to_wandb(tracker: Any, title: str, images: list[Image.Image], step: int) -> None:
    tracker.log_images({title: images}, step=step)


def _to_mlflow(tracker: Any, title: str, images: list[Image.Image], step: int) -> None:
    import mlflow

    del tracker
    for number, image in enumerate(images):
        mlflow.log_image(image, key=f"{title.replace('/', ' ')} {number}", step=step)


def _to_trackio(tracker: Any, title: str, images: list[Image.Image], step: int) -> None:
    import trackio

    for number, image in enumerate(images):
        tracker.log({f"{title} {number}": trackio.Image(image)}, step=step)


_LOG_IMAGES: Mapping[str, Callable[[Any, str, list[Image.Image], int], None]] = {
    "tensorboard": _to_tensorboard,
    "wandb": _to_wandb,
    "mlflow": _to_mlflow,
    "trackio": _to_trackio,
}


@contextlib.contextmanager
def tracking(
    config: RunConfig, folder: RunFolder, class_names: Sequence[str], progress: Progress
) -> Iterator[Tracking]:
    """Yield the tracking of a run, closed at the end however it ends."""
    follower = Tracking(config, folder, class_names, progress)
    try:
        yield follower
    finally:
        with contextlib.suppress(GenDataAgentError):
            follower.close()
