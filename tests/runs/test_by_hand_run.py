"""Decisions by hand in complete runs: honoured at resume, in later rounds and by every export."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from gendataagent.agent.by_hand.rules import DROP, KEEP
from gendataagent.agent.pool import Pool
from gendataagent.config import RunConfig
from gendataagent.core import files
from gendataagent.core.errors import RunFolderError
from gendataagent.core.journal import append_row, read_journal
from gendataagent.core.progress import SilentProgress, Stage
from gendataagent.core.run_folder import RunFolder
from gendataagent.runs.exporting.datasets import export_data
from gendataagent.runs.run import resume, run_until
from gendataagent.runs.verify import verify
from tests.agent.test_by_hand import decide
from tests.runs.test_resume import Interrupting, outcome
from tests.small_world import settings_for

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def config(photo_folder: Path, tiny_pipeline_folder: Path) -> RunConfig:
    """All images of all rounds stay in training; some of the first round are dropped too."""
    config = settings_for(photo_folder, tiny_pipeline_folder)
    return replace(
        config,
        agent=replace(config.agent, pool="accumulate"),
        filter=replace(config.filter, by="random"),
    )


@pytest.fixture(scope="module")
def decided(config: RunConfig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was stopped after its first round, then reviewed."""
    path = tmp_path_factory.mktemp("decided") / "run"
    run_until(config, path, 2)
    folder = RunFolder(path)
    candidates = Pool(folder, ()).candidates(0)
    decide(folder, DROP, *[c.id for c in candidates if c.kept][:3])
    decide(folder, KEEP, next(c.id for c in candidates if not c.kept))
    return path


@pytest.fixture(scope="module")
def resumed(decided: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, int]:
    """The folder of that run, resumed to its end, and how many progress events it then had."""
    path = Path(shutil.copytree(decided, tmp_path_factory.mktemp("finished") / "run"))
    progress = Interrupting()
    resume(path, progress=progress)
    return path, progress.events


@pytest.fixture(scope="module")
def finished(resumed: tuple[Path, int]) -> Path:
    return resumed[0]


def test_a_resumed_run_trains_on_what_was_decided(finished: Path) -> None:
    pool, folder = Pool(RunFolder(finished), ()), RunFolder(finished)
    kept = [sum(c.kept for c in pool.candidates(number)) for number in range(2)]
    enters = files.read_json(finished / "rounds/001/record.json")["epoch"]
    rows = files.read_jsonl(folder.metrics_file)
    counts = [row["synthetic_images"] for row in rows]
    expected = [
        0,
        kept[0],
        *(kept[0] - 2 + (kept[1] if epoch >= enters else 0) for epoch in (2, 3)),
    ]
    assert counts == expected
    assert [row["epoch"] for row in files.read_jsonl(folder.decisions_in_effect_file)] == [2, 3]


@pytest.mark.parametrize("share", [0.4, 0.8])
def test_stopped_again_it_ends_the_same(
    decided: Path, resumed: tuple[Path, int], tmp_path: Path, share: float
) -> None:
    finished, events = resumed
    path = Path(shutil.copytree(decided, tmp_path / "run"))
    with pytest.raises(KeyboardInterrupt):
        resume(path, progress=Interrupting(int(share * events)))
    resume(path)
    assert outcome(path) == outcome(finished)
    assert all(part.whole for part in verify(path))


class Deciding(SilentProgress):
    """Drops an image in the middle of the first epoch it sees, and may be interrupted then."""

    def __init__(self, folder: RunFolder, *, then_stopped: bool) -> None:
        self._folder, self._stops, self._training = folder, then_stopped, False

    @contextlib.contextmanager
    def stage(
        self, name: str, total: int | None = None, unit: str = "", done: int = 0
    ) -> Iterator[Stage]:
        with super().stage(name, total, unit, done) as silent:
            yield self if name == "train" else silent

    def advance(self, amount: float = 1) -> None:
        """One optimiser step is done."""
        if not self._training:
            self._training = True
            kept = Pool(self._folder, ()).kept([0])
            decide(self._folder, DROP, kept.ids[0])
            if self._stops:
                raise KeyboardInterrupt


def test_decided_while_it_trains_stopped_or_not(
    decided: Path, finished: Path, tmp_path: Path
) -> None:
    whole, stopped = (
        Path(shutil.copytree(decided, tmp_path / name)) for name in ("whole", "stopped")
    )
    resume(whole, progress=Deciding(RunFolder(whole), then_stopped=False))
    with pytest.raises(KeyboardInterrupt):
        resume(stopped, progress=Deciding(RunFolder(stopped), then_stopped=True))
    resume(stopped)
    assert outcome(stopped) == outcome(whole)
    for path in (whole, stopped):
        sizes = [row["size"] for row in files.read_jsonl(RunFolder(path).decisions_in_effect_file)]
        assert 0 < sizes[0] < sizes[1]
    before, after = (
        [row["synthetic_images"] for row in files.read_jsonl(path / "metrics.jsonl")]
        for path in (finished, whole)
    )
    assert [b - a for b, a in zip(before, after, strict=True)] == [0, 0, 0, 1]


def test_decisions_after_the_end_change_exports_and_not_the_run(
    finished: Path, tmp_path: Path
) -> None:
    path = Path(shutil.copytree(finished, tmp_path / "run"))
    pool, folder = Pool(RunFolder(path), ()), RunFolder(path)
    before = set(pool.kept(range(2)).ids)
    keep = next(c.id for c in pool.candidates(1) if not c.kept)
    drop = next(c.id for c in pool.candidates(1) if c.kept)
    decide(folder, DROP, drop)
    decide(folder, KEEP, keep)
    exported = export_data(path, "parquet", tmp_path / "out", only="kept")
    rows = pq.read_table(next(exported.path.rglob("*.parquet"))).to_pylist()
    assert {row["id"] for row in rows} == (before | {keep}) - {drop}
    said = "4 dropped that the run had kept, 2 kept that it had dropped"
    assert f"Decisions by hand: {said}." in exported.notes
    assert said in (exported.path / "README.md").read_text(encoding="utf-8")
    resume(path)  # only reads
    assert outcome(path) == outcome(finished)
    parts = {part.part: part for part in verify(path)}
    assert all(part.whole for part in parts.values())
    assert parts["decisions by hand"].files == 2


def test_decisions_of_another_run_are_refused_by_every_reader(
    finished: Path, tmp_path: Path
) -> None:
    path = Path(shutil.copytree(finished, tmp_path / "run"))
    decisions = RunFolder(path).decisions_file
    row = read_journal(decisions)[0] | {"id": "r000-0123456789abcdef-v0"}
    append_row(decisions, {key: value for key, value in row.items() if key != "check"})
    with pytest.raises(RunFolderError, match="r000-0123456789abcdef-v0"):
        export_data(path, "csv", tmp_path / "out", only="kept")
    damaged = [damage for part in verify(path) for damage in part.damaged]
    assert [damage.path for damage in damaged] == [decisions]
    assert "r000-0123456789abcdef-v0" in str(damaged[0])
