"""[tracking]: following a run in an experiment tracker."""

from __future__ import annotations

from dataclasses import dataclass

from gendataagent.config.settings import setting

NO_TRACKER = "none"
TRACKERS = ("tensorboard", "wandb", "mlflow", "trackio")


@dataclass(frozen=True, slots=True, kw_only=True)
class TrackingConfig:
    """Where the metrics and some images of a run are shown while it goes on."""

    to: str = setting(
        NO_TRACKER,
        "tracker that gets metrics and images while the run goes on; tensorboard writes to "
        "RUN/tracking; see docs/tracking.md",
        choices=(NO_TRACKER, *TRACKERS),
        affects_results=False,
    )
    project: str = setting(
        "gendataagent", "name of the project in the tracker", affects_results=False
    )
    images: int = setting(
        16,
        "kept images of each round that are sent to it, of each class in turn",
        at_least=0,
        affects_results=False,
    )
