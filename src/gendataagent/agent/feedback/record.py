"""The record of a round's feedback, `rounds/003/feedback.json`."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from gendataagent.agent.feedback.hardness import Hardness
from gendataagent.agent.feedback.search import MATCHED, NO_GAP, SECOND_VIEW, STRONGEST, Probe

FIXED, UNTRAINED, EARLIER_ROUND, NO_IMAGES = "fixed", "untrained", "earlier round", "no images"

_NO_FEEDBACK = {
    NO_IMAGES: "no image without feedback could be used",
    NO_GAP: "synthetic images are already as hard for the classifier as validation images",
    MATCHED: "the weakest that was tried makes images harder than validation images",
    SECOND_VIEW: "the weakest that was tried loses the class in a second view",
}
_NO_STRONGER = {
    SECOND_VIEW: ", no stronger because a second view would lose the class",
    STRONGEST: ", the strongest allowed",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class FeedbackRecord:
    """How feedback was set in a round, and what it changed.

    Args:
        reason: FIXED; UNTRAINED, EARLIER_ROUND or NO_IMAGES (no feedback); or as in `search.Found`.
        guide: SHA-256 of the guiding classifier's weights; "" without feedback.
        target: mean p(y) of held-out photographs times `feedback_target`; floor: share of them
            recognised in the second view, less one standard error. None where the scale is fixed.
        probes: the scales measured.
        candidates: ids of the probes; `plain` and `guided` hold their hardness without and with
            feedback, `sources` that of their real sources.
    """

    criterion: str
    scale: float
    reason: str
    guide: str = ""
    target: float | None = None
    floor: float | None = None
    probes: tuple[Probe, ...] = ()
    candidates: tuple[str, ...] = ()
    sources: Hardness | None = None
    plain: Hardness | None = None
    guided: Hardness | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the fields as plain JSON values; `core.rows.read_record` reads them."""
        return asdict(self)

    @property
    def sentence(self) -> str:
        """What the round's line says of its feedback, as a sentence; "" = nothing."""
        if not self.scale:
            why = _NO_FEEDBACK.get(self.reason)
            return f"No feedback: {why}." if why else ""
        plain = self.probes[0].mean_p
        guided = next(probe.mean_p for probe in self.probes if probe.scale == self.scale)
        said = (
            f"Feedback by {self.criterion}, scale {self.scale:g}, changes p(true class) of "
            f"synthetic images from {plain:.2f} to {guided:.2f}"
        )
        if self.target is not None:
            said += f" (target: {self.target:.2f})"
        return f"{said}{_NO_STRONGER.get(self.reason, '')}."
