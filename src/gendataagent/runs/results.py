"""The result of a finished run, read from its folder without torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from gendataagent.config.run_config_file import check_unchanged, read_run_config
from gendataagent.core.errors import RunFolderError
from gendataagent.core.records import (
    EpochMetrics,
    Evaluation,
    GuardRecord,
    RoundRecord,
    RunManifest,
)
from gendataagent.core.rows import read_mapping, read_record, read_records
from gendataagent.core.run_folder import RunFolder
from gendataagent.generation.known_classes import KnownClasses, known_classes

RECORD = "record.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class RunResult:
    """The result of a finished run.

    Args:
        evaluations: split ("train", "validation", "test") -> evaluation of the final classifier;
            where the guard chose the baseline's classifier, of that one.
        rounds: one record per round, in order.
        seconds: stage -> wall-clock seconds, over all attempts.
        baseline: the same training without the agent, if there was one.
        guard: which classifier the guard chose, if it was on.
        agent: whether it used the agent.
        epochs: of its training.
        right: id of each test image -> whether it is classified correctly.
        known: which classes its generator can draw; None if it has no closed list of them.
    """

    path: Path
    evaluations: Mapping[str, Evaluation]
    rounds: tuple[RoundRecord, ...]
    seconds: Mapping[str, float]
    optimizer_steps: int
    baseline: RunResult | None = None
    guard: GuardRecord | None = None
    agent: bool = True
    epochs: int = 0
    right: Mapping[str, bool] = field(default_factory=dict)
    known: KnownClasses | None = None

    @property
    def images_made(self) -> int:
        """Synthetic images made in all rounds."""
        return sum(record.made for record in self.rounds)

    @property
    def images_kept(self) -> int:
        """Synthetic images that passed the filter in all rounds."""
        return sum(record.kept for record in self.rounds)

    @property
    def total_seconds(self) -> float:
        """Wall-clock seconds of all stages, the rounds' included, over all attempts."""
        in_rounds = sum(sum(record.seconds.values()) for record in self.rounds)
        return sum(self.seconds.values()) + in_rounds


def read_result(out: str | Path) -> RunResult:
    """Return the result of a finished run; raise `RunFolderError` if it is not finished."""
    folder = RunFolder.open(out)
    if not folder.is_done:
        raise RunFolderError(
            f"the run in {out} is not finished; resume it with: gendataagent run --resume {out}"
        )
    folder.check_done(
        folder.evaluation_file, folder.metrics_file, folder.guard_file,
        folder.test_predictions_file,
    )  # fmt: skip
    rounds = folder.rounds_at_the_end()
    for number in rounds:
        folder.check_in_round(number, RECORD)
    config = read_run_config(folder)
    folder.check_done(folder.manifest_file)
    manifest = read_record(RunManifest, folder.manifest_file)
    check_unchanged(folder, config, manifest.config_hash)
    generator = manifest.generator
    return RunResult(
        path=folder.path,
        evaluations=read_mapping(folder.evaluation_file, Evaluation),
        rounds=tuple(read_record(RoundRecord, folder.round(number) / RECORD) for number in rounds),
        seconds=folder.read_timing(),
        optimizer_steps=sum(
            epoch.optimizer_steps for epoch in read_records(EpochMetrics, folder.metrics_file)
        ),
        baseline=read_result(folder.baseline) if config.agent.trains_baseline else None,
        guard=(read_record(GuardRecord, folder.guard_file) if folder.guard_file.exists() else None),
        agent=config.agent.enabled,
        epochs=config.training.epochs,
        right={id_: label == said for id_, (label, said) in folder.read_predictions().items()},
        known=known_classes(generator.name, manifest.class_names) if generator else None,
    )
