"""Reads a run folder into the frozen values that the page shows.

Only `config.toml` and `manifest.json` are required. Other missing files are left out; files that
cannot be read or have changed since they were written are left out too, and named in
`RunView.problems` and on the page.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from gendataagent.agent.by_hand.in_effect import current_decisions
from gendataagent.agent.feedback.opinion import SecondOpinion
from gendataagent.agent.feedback.record import FeedbackRecord
from gendataagent.config import RunConfig
from gendataagent.config.paths import settings_hash
from gendataagent.config.settings import SettingRow, iterate_settings, read_settings_of_run
from gendataagent.core.coverage import Coverage
from gendataagent.core.errors import ConfigError, RunFolderError
from gendataagent.core.files import read_bytes, read_json
from gendataagent.core.inside import refuse_ways_out
from gendataagent.core.journal import parse_journal
from gendataagent.core.record_table import RecordTable
from gendataagent.core.records import (
    Candidate,
    EpochMetrics,
    Evaluation,
    GuardRecord,
    RoundRecord,
    RunManifest,
    Scored,
)
from gendataagent.core.rows import RowError, fit
from gendataagent.core.run_folder import SELECTED_FILE, RunFolder
from gendataagent.core.seals import CHANGED, RecordedHashes
from gendataagent.core.text import whole_number
from gendataagent.report.run_view import RoundView, RunView
from gendataagent.runs.mistakes import MISTAKES_FILE, Mistake

Record = TypeVar("Record")


def read_run(folder: Path) -> RunView:
    """Return the view of a run folder.

    Raises:
        RunFolderError: not a run folder, its config.toml or manifest.json cannot be read, or a link
            in it leads out of it.
    """
    refuse_ways_out(folder)
    for name in ("config.toml", "manifest.json"):
        if not (folder / name).is_file():
            raise RunFolderError(
                f"{folder} is not a run folder: it has no {name}; give the folder that "
                "`gendataagent run --out` wrote"
            )
    hashes = RunFolder(folder).recorded_hashes()
    reader = _Reader(hashes)
    manifest = _manifest(reader, read_json(folder / "manifest.json"), folder)
    known, unknown = _settings(reader, folder, manifest)
    rounds, unfinished = _rounds(reader, folder)
    metrics = {row.epoch: row for row in reader.records(EpochMetrics, folder / "metrics.jsonl")}
    evaluations = reader.mapping(folder / "evaluation.json")
    timing = reader.mapping(folder / "timing.json")
    decisions = _decisions(reader, folder)
    predictions = {
        str(row.get("id")): (label, predicted)
        for row in reader.rows(folder / "test_predictions.jsonl")
        if isinstance(label := row.get("label"), int)
        and isinstance(predicted := row.get("predicted"), int)
    }
    return RunView(
        folder=folder,
        manifest=manifest,
        settings=known,
        unknown_settings=unknown,
        class_counts=_class_counts(reader.rows(folder / "data" / "splits.jsonl")),
        quarantine=tuple(
            (str(row.get("name", "")), str(row.get("reason", "")))
            for row in reader.rows(folder / "data" / "quarantine.jsonl")
        ),
        rounds=rounds,
        unfinished_rounds=unfinished,
        metrics=tuple(metrics[epoch] for epoch in sorted(metrics)),
        evaluations={
            split: evaluation
            for split, row in evaluations.items()
            if (evaluation := reader.record(Evaluation, row, folder / "evaluation.json"))
        },
        timing={k: float(v) for k, v in timing.items() if isinstance(v, int | float)},
        guard=reader.optional(GuardRecord, folder / "guard" / "outcome.json"),
        second_opinion=reader.optional(SecondOpinion, folder / "second_opinion.json"),
        coverage={
            name: one
            for name, row in reader.mapping(folder / "coverage.json").items()
            if (one := reader.record(Coverage, row, folder / "coverage.json"))
        },
        adaptation_distances=_distances(reader.mapping(folder / "adaptation" / "adaptation.json")),
        finished=(folder / "DONE").exists(),
        baseline=_baseline(reader, folder / "baseline"),
        predictions=predictions,
        mistakes=tuple(reader.records(Mistake, folder / "mistakes" / MISTAKES_FILE)),
        decisions=decisions,
        problems=tuple(dict.fromkeys(reader.problems)),
        hashes=hashes,
    )


class _Reader:
    """Reads optional files and collects a sentence about each broken one."""

    def __init__(self, hashes: RecordedHashes) -> None:
        self._hashes = hashes
        self.problems = [f"{damage}" for damage in hashes.damaged_marks]

    def has(self, path: Path) -> bool:
        """Return whether a file is there and what was written; report one that is not."""
        damage = self._hashes.damage(path)
        if damage is not None:
            self.problems.append(f"{damage}; it is left out")
        return damage is None and path.is_file()

    def rows(self, path: Path) -> list[dict[str, Any]]:
        """Return the objects of a JSONL file; incomplete lines are reported, not fatal."""
        if not self.has(path):
            return []
        try:
            content = read_bytes(path)
        except OSError as error:
            self.problems.append(f"{path.name} cannot be read: {error.strerror or error}")
            return []
        rows = parse_journal(content)
        if broken := sum(map(bool, content.split(b"\n"))) - len(rows):
            self.problems.append(f"{path.name}: skipped {broken} line(s) that are not JSON")
        return rows

    def mapping(self, path: Path) -> dict[str, Any]:
        """Return the object of a JSON file, or {} if it is missing or broken."""
        if not self.has(path):
            return {}
        try:
            value = read_json(path)
        except RunFolderError as error:
            self.problems.append(str(error))
            return {}
        return value if isinstance(value, dict) else {}

    def record(self, cls: type[Record], row: Any, path: Path) -> Record | None:
        """Return the record of a row; unknown keys are ignored."""
        try:
            return fit(cls, row, ignore_unknown=True)
        except RowError as error:
            self.problems.append(f"{path.name}: a row is not a {cls.__name__} ({error})")
            return None

    def optional(self, cls: type[Record], path: Path) -> Record | None:
        """Return the record of a JSON file, None if it is missing or broken."""
        row = self.mapping(path)
        return self.record(cls, row, path) if row else None

    def records(self, cls: type[Record], path: Path) -> list[Record]:
        """Return the records of a JSONL file."""
        found = (self.record(cls, row, path) for row in self.rows(path))
        return [record for record in found if record is not None]

    def table(self, kind: type[Record], path: Path) -> Sequence[Record]:
        """Return the records of a parquet file."""
        if not self.has(path):
            return ()
        try:
            return RecordTable.read(kind, path, ignore_unknown=True)
        except RunFolderError as error:
            self.problems.append(str(error))
            return ()


def _manifest(reader: _Reader, row: Any, folder: Path) -> RunManifest:
    if not reader.has(folder / "manifest.json"):
        reader.problems[-1] = f"{folder / 'manifest.json'} {CHANGED}, and may be wrong"
    manifest = reader.record(RunManifest, row, folder / "manifest.json")
    if manifest is None:
        raise RunFolderError(
            f"{folder / 'manifest.json'} is not the manifest of a run: {reader.problems[-1]}"
        )
    return manifest


def _settings(
    reader: _Reader, folder: Path, manifest: RunManifest
) -> tuple[dict[str, SettingRow], dict[str, Any]]:
    """Return the known settings with the values of this run, and the unknown ones."""
    try:
        tree = read_settings_of_run(folder / "config.toml")
    except ConfigError as error:
        raise RunFolderError(str(error)) from error
    with contextlib.suppress(ConfigError):  # of another version
        if settings_hash(RunConfig.from_dict(tree)) != manifest.config_hash:
            reader.problems.append(
                f"{folder / 'config.toml'} {CHANGED}, in a setting that changes results"
            )
    flat: dict[str, Any] = {}
    for name, value in tree.items():
        if isinstance(value, dict):
            flat.update({f"{name}.{key}": leaf for key, leaf in value.items()})
        else:
            flat[name] = value
    known = {}
    for row in iterate_settings(RunConfig()):
        value = flat.pop(row.key, row.default)
        if isinstance(value, list):
            value = tuple(value)
        known[row.key] = SettingRow(row.key, value, row.default, row.setting)
    return known, flat


def _rounds(reader: _Reader, folder: Path) -> tuple[tuple[RoundView, ...], tuple[int, ...]]:
    """Return the finished rounds in order, and the numbers of the unfinished ones."""
    finished, unfinished = [], []
    for path in sorted((folder / "rounds").glob("[0-9]*"), key=lambda path: path.name):
        if whole_number(path.name) is None:
            continue
        is_done = (path / "DONE").exists()
        record = reader.optional(RoundRecord, path / "record.json") if is_done else None
        if record is None:
            unfinished.append(int(path.name))
            continue
        pool_folder = folder / "pool" / path.name
        finished.append(
            RoundView(
                record=record,
                selected=reader.table(Scored, path / SELECTED_FILE),
                candidates=reader.table(Candidate, pool_folder / "metadata.parquet"),
                folder=path,
                pool_folder=pool_folder,
                feedback=reader.optional(FeedbackRecord, path / "feedback.json"),
            )
        )
    return tuple(finished), tuple(unfinished)


def _decisions(reader: _Reader, folder: Path) -> Mapping[str, str]:
    try:
        return current_decisions(RunFolder(folder)).of_id
    except (ConfigError, RunFolderError) as error:
        reader.problems.append(f"decisions by hand are left out: {error}")
        return {}


def _distances(adaptation: Mapping[str, Any]) -> tuple[tuple[str, float, float], ...]:
    """Return the distances in the record of an adaptation; () if none were measured."""
    measured = adaptation.get("distances")
    if not isinstance(measured, dict):
        return ()
    names = {
        "before": "before adaptation",
        "after": "after adaptation",
        "change": "change",
        "floor": "real training images",
    }
    return tuple(
        (title, float(row["mmd2"]), float(row["standard_error"]))
        for key, title in names.items()
        if isinstance(row := measured.get(key), dict)
        and all(isinstance(row.get(name), int | float) for name in ("mmd2", "standard_error"))
    )


def _class_counts(rows: list[dict[str, Any]]) -> dict[str, dict[str, int]]:
    counts: dict[str, Counter[str]] = {}
    for row in rows:
        counts.setdefault(str(row.get("class", "")), Counter())[str(row.get("split", ""))] += 1
    return {name: dict(splits) for name, splits in counts.items()}


def _baseline(reader: _Reader, folder: Path) -> RunView | None:
    """Return the view of the same training without the agent, if there is one."""
    if not folder.is_dir():
        return None
    try:
        baseline = read_run(folder)
    except RunFolderError as error:
        reader.problems.append(f"the baseline was skipped: {error}")
        return None
    reader.problems.extend(f"baseline: {problem}" for problem in baseline.problems)
    return baseline
