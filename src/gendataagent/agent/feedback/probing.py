"""Makes the probes of a round at one scale of feedback after another, and measures them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from gendataagent.agent.feedback.hardness import Hardness
from gendataagent.agent.feedback.measuring import measure_hardness
from gendataagent.agent.feedback.search import Probe
from gendataagent.core import files
from gendataagent.core.errors import RunFolderError
from gendataagent.core.journal import append_row, read_journal
from gendataagent.core.records import Candidate, RenderedCandidate
from gendataagent.core.rows import RowError, fit
from gendataagent.data.pixels import Pixels
from gendataagent.training.classifier import Classifier

Render = Callable[[Sequence[Candidate], float], list[RenderedCandidate]]
"""Makes the images of candidates at a scale of feedback."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Measured:
    """One line of the journal."""

    scale: float
    guide: str
    hardness: Hardness


class Prober:
    """Measures how hard the images of the same candidates are at several scales.

    Each scale is made once, also across interruptions.

    Args:
        folder: of the round.
        guide: SHA-256 of the guiding classifier's weights.

    Attributes:
        hardness: scale -> of the images made at it.
        images: scale -> the images made in this process.

    Raises:
        RunFolderError: an interrupted attempt measured with a classifier of other weights.
    """

    def __init__(
        self,
        folder: Path,
        candidates: Sequence[Candidate],
        render: Render,
        classifier: Classifier,
        guide: str,
    ) -> None:
        self.candidates, self.guide = tuple(candidates), guide
        self._folder, self._render, self._classifier = folder, render, classifier
        self._journal = folder / "feedback_probes.jsonl"
        self.images: dict[float, tuple[RenderedCandidate, ...]] = {}
        self.hardness: dict[float, Hardness] = {}
        for row in read_journal(self._journal):
            try:
                measured = fit(_Measured, row)
            except RowError:
                continue  # a damaged line; its scale is measured again
            check_same_guide(measured.guide, guide, folder)
            self.hardness[measured.scale] = measured.hardness

    def measure(self, scale: float) -> Probe:
        """Return how hard the candidates' images are at a scale."""
        if scale not in self.hardness:
            made = self._render(self.candidates, scale)
            self.images[scale] = tuple(made)
            if not scale:
                self._keep_plain(made)
            self.hardness[scale] = self._measured(made)
            line = _Measured(scale=scale, guide=self.guide, hardness=self.hardness[scale])
            append_row(self._journal, asdict(line))
        hardness = self.hardness[scale]
        return Probe(scale, _mean(hardness.p_true), _mean(hardness.recognised))

    def _measured(self, made: Sequence[RenderedCandidate]) -> Hardness:
        usable = [(item.candidate, item.image) for item in made if item.candidate.kept]
        pixels = Pixels.from_pil(
            [image for _, image in usable if image is not None],
            [candidate.label for candidate, _ in usable],
            ids=[candidate.id for candidate, _ in usable],
            size_px=self._classifier.resize_px,
        )
        return measure_hardness(self._classifier, pixels)

    def _keep_plain(self, made: Sequence[RenderedCandidate]) -> None:
        for item in made:
            if (content := item.to_png()) is not None:
                path = self._folder / "plain" / Path(item.candidate.file_name).name
                files.write_bytes(path, content)


def check_same_guide(earlier: str, now: str, folder: Path) -> None:
    """Raise `RunFolderError` if a round was begun with another classifier than it continues."""
    if earlier != now:
        raise RunFolderError(
            f"{folder} was begun with feedback of a classifier with other weights, so its images "
            "cannot be completed; continue with the weights it had then, or start a new run"
        )


def _mean(values: Sequence[float]) -> float:
    return round(sum(values) / len(values), 6) if values else 0.0
