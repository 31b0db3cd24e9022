"""What the report shows of one run folder, as frozen values; `run_reader` reads them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gendataagent.agent.by_hand.rules import HandCounts
from gendataagent.agent.feedback.opinion import SecondOpinion
from gendataagent.agent.feedback.record import FeedbackRecord
from gendataagent.config.settings import SettingRow
from gendataagent.core.coverage import Coverage
from gendataagent.core.records import (
    Candidate,
    EpochMetrics,
    Evaluation,
    GuardRecord,
    RoundRecord,
    RunManifest,
    Scored,
    candidate_id,
)
from gendataagent.core.seals import RecordedHashes
from gendataagent.generation.known_classes import KnownClasses, known_classes
from gendataagent.runs.mistakes import Mistake

ROUND_STAGES = ("select", "caption", "rewrite", "feedback", "render", "wait", "filter", "probe")


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundView:
    """One finished round: its record, the selected images, the candidates, and its feedback."""

    record: RoundRecord
    selected: Sequence[Scored]
    candidates: Sequence[Candidate]
    folder: Path
    pool_folder: Path
    feedback: FeedbackRecord | None = None

    def source_image(self, source_id: str) -> Path:
        """Return the path of the copy of a source image; it may be missing."""
        name = candidate_id(self.record.round, source_id, 0).split("-")[1]
        return self.folder / "sources" / f"{name}.png"

    def candidate_image(self, candidate: Candidate) -> Path:
        """Return the path of the candidate's image; it may be missing."""
        return self.pool_folder / Path(candidate.file_name).name

    def plain_image(self, candidate: Candidate) -> Path:
        """Return the path of the candidate's image without feedback; it may be missing."""
        return self.folder / "plain" / Path(candidate.file_name).name


@dataclass(frozen=True, slots=True, kw_only=True)
class RunView:
    """All the page shows of one run folder.

    Args:
        settings: every known setting with its value in this run and its default.
        unknown_settings: keys of config.toml unknown to this version, with their values.
        class_counts: class name -> split -> images.
        evaluations: split -> evaluation of the final classifier.
        guard: which classifier the baseline guard chose, if it was on.
        second_opinion: of the baseline's classifier on guided images, if there are both.
        coverage: class name -> how its synthetic images lie among its real ones.
        adaptation_distances: name, MMD^2 and standard error, if the generator was adapted.
        predictions: id of each test image -> its class and the predicted one, as indices.
        mistakes: some test images that it gets wrong, or cured.
        decisions: candidate id -> "keep" or "drop", decided by hand.
        problems: one sentence for each file that could not be read or has changed.
        hashes: those recorded when the files of the run were written.
    """

    folder: Path
    manifest: RunManifest
    settings: Mapping[str, SettingRow]
    unknown_settings: Mapping[str, Any]
    class_counts: Mapping[str, Mapping[str, int]]
    quarantine: tuple[tuple[str, str], ...]
    rounds: tuple[RoundView, ...]
    unfinished_rounds: tuple[int, ...]
    metrics: tuple[EpochMetrics, ...]
    evaluations: Mapping[str, Evaluation]
    timing: Mapping[str, float]
    guard: GuardRecord | None
    second_opinion: SecondOpinion | None
    coverage: Mapping[str, Coverage]
    adaptation_distances: tuple[tuple[str, float, float], ...]
    finished: bool
    baseline: RunView | None
    predictions: Mapping[str, tuple[int, int]]
    mistakes: tuple[Mistake, ...]
    decisions: Mapping[str, str]
    problems: tuple[str, ...]
    hashes: RecordedHashes

    def is_whole(self, path: Path) -> bool:
        """Return whether a file of the run is what was written, as far as that is recorded."""
        runs = (self, self.baseline) if self.baseline else (self,)
        return not any(run.hashes.damage(path) for run in runs)

    def value(self, key: str) -> Any:
        """Return the value of a setting in this run."""
        return self.settings[key].value

    def class_name(self, label: int) -> str:
        """Return the name of a class by its index, "class N" if the manifest has none."""
        names = self.manifest.class_names
        return names[label] if 0 <= label < len(names) else f"class {label}"

    def label_of(self, class_name: str) -> int:
        """Return the index of a class by its name, -1 if the manifest has none of it."""
        names = self.manifest.class_names
        return names.index(class_name) if class_name in names else -1

    @property
    def agent_enabled(self) -> bool:
        """Whether the run used the agent."""
        return bool(self.value("agent.enabled"))

    @property
    def called(self) -> str:
        """What the result is called beside that of the baseline."""
        if self.guard is not None:
            return self.guard.called
        return "with the agent" if self.agent_enabled else "this run"

    @property
    def known_classes(self) -> KnownClasses | None:
        """Which classes the generator can draw; None if it has no list, or makes no images."""
        generator = self.manifest.generator
        if generator is None or not self.agent_enabled:
            return None
        return known_classes(generator.name, self.manifest.class_names)

    @property
    def final(self) -> Evaluation | None:
        """The evaluation on test, else on validation."""
        return self.evaluations.get("test") or self.evaluations.get("validation")

    @property
    def before(self) -> Evaluation | None:
        """The baseline's evaluation; None without one, or if the guard kept its classifier."""
        kept = self.guard is not None and self.guard.chosen == "baseline"
        return None if kept or self.baseline is None else self.baseline.final

    @property
    def right(self) -> dict[str, bool]:
        """Id of each test image -> whether it is classified correctly."""
        return {id_: label == said for id_, (label, said) in self.predictions.items()}

    @property
    def made(self) -> int:
        """Images generated in all finished rounds."""
        return sum(round_.record.made for round_ in self.rounds)

    @property
    def kept(self) -> int:
        """Images kept in all finished rounds."""
        return sum(round_.record.kept for round_ in self.rounds)

    @property
    def rejected(self) -> dict[str, int]:
        """Reason -> images rejected in all finished rounds, most frequent first."""
        counts: Counter[str] = Counter()
        for round_ in self.rounds:
            counts.update(round_.record.rejected)
        return dict(counts.most_common())

    @property
    def rewriting(self) -> dict[str, int]:
        """Outcome of the rewriter's replies -> count, over all finished rounds."""
        counts: Counter[str] = Counter()
        for round_ in self.rounds:
            counts.update(round_.record.rewriting)
        return dict(counts.most_common())

    @property
    def peak_memory_mib(self) -> dict[str, float]:
        """Stage of the rounds -> its peak memory over all rounds."""
        peaks: dict[str, float] = {}
        for round_ in self.rounds:
            for stage, mib in round_.record.peak_memory_mib.items():
                peaks[stage] = max(mib, peaks.get(stage, 0.0))
        return peaks

    @property
    def by_hand(self) -> HandCounts:
        """What decisions by hand changed in the finished rounds."""
        judged = (candidate for round_ in self.rounds for candidate in round_.candidates)
        return HandCounts.of(judged, self.decisions) if self.decisions else HandCounts()

    @property
    def seconds(self) -> dict[str, float]:
        """Stage -> seconds: train, the stages of the rounds, evaluate, then other timings."""
        train = sum(epoch.seconds for epoch in self.metrics)
        result = {"train": self.timing.get("train", train)}
        for stage in ROUND_STAGES:
            result[stage] = sum(r.record.seconds.get(stage, 0.0) for r in self.rounds)
        for stage, seconds in self.timing.items():
            result.setdefault(stage, seconds)
        return {stage: seconds for stage, seconds in result.items() if seconds > 0}
