"""A run keeps what it decided when it was made on any machine, and says what is different there."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from gendataagent.agent.decisions import with_threads
from gendataagent.config import AUTO, RunConfig
from gendataagent.config.paths import settings_hash
from gendataagent.config.run_config_file import read_run_config, write_run_config
from gendataagent.core import devices, memory
from gendataagent.core.devices import cpu_threads
from gendataagent.core.errors import RunFolderError
from gendataagent.core.progress import SilentProgress, Stage
from gendataagent.core.run_folder import RunFolder
from gendataagent.runs.run import resume, run
from tests.runs.test_resume import Interrupting, outcome

pytestmark = pytest.mark.integration


class Listening(Interrupting):
    """A progress display that keeps what is said."""

    def __init__(self, at: int | None = None) -> None:
        super().__init__(at)
        self.said: list[str] = []

    def say(self, message: str) -> None:
        self.said.append(message)
        super().say(message)


class AtStage(SilentProgress):
    """A progress display that raises KeyboardInterrupt when a stage begins for the n-th time."""

    def __init__(self, name: str, at: int) -> None:
        self._name, self._left = name, at

    @contextlib.contextmanager
    def stage(
        self, name: str, total: int | None = None, unit: str = "", done: int = 0
    ) -> Iterator[Stage]:
        self._left -= name == self._name
        if not self._left:
            raise KeyboardInterrupt
        with super().stage(name, total, unit, done) as stage:
            yield stage


def threads_of(path: Path) -> int:
    return read_run_config(RunFolder.open(path)).threads


@pytest.fixture
def unfixed(small_config: RunConfig) -> RunConfig:
    return replace(small_config, threads=0)


def test_the_number_of_threads_is_fixed_when_the_run_is_made(
    unfixed: RunConfig, tmp_path: Path
) -> None:
    """Begun on two cores and resumed on one, it ends as without the stop, to the bit."""
    with cpu_threads(2):
        run(unfixed, tmp_path / "whole")
        with pytest.raises(KeyboardInterrupt):
            run(unfixed, tmp_path / "run", progress=Interrupting(24))
    assert threads_of(tmp_path / "run") == 2
    with cpu_threads(1):
        progress = Listening()
        resume(tmp_path / "run", config=unfixed, progress=progress)
    assert not [sentence for sentence in progress.said if "another machine" in sentence]
    assert threads_of(tmp_path / "run") == 2
    assert outcome(tmp_path / "run") == outcome(tmp_path / "whole")


@pytest.mark.parametrize("units", [True, False])
def test_dtypes_precision_and_batch_are_fixed_when_the_run_is_made(
    units: bool, small_config: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Begun on a CPU with bfloat16 units and resumed on one without, or the other way round."""
    config = replace(
        small_config,
        training=replace(small_config.training, epochs=3),
        generation=replace(small_config.generation, batch_size=AUTO),
    )
    monkeypatch.setattr(devices, "has_bfloat16_units", lambda: units)
    run(config, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        run(config, tmp_path / "run", progress=Interrupting(12))
    made = read_run_config(RunFolder.open(tmp_path / "run"))
    assert made.generation.dtype == ("bfloat16" if units else "float32")
    assert made.training.mixed_precision == ("bf16" if units else "no")
    assert made.generation.batch_size == 32  # a round makes 18 images
    assert made.adaptation.mixed_precision == made.training.mixed_precision
    assert made.prompting.dtype == "float32"
    monkeypatch.setattr(devices, "has_bfloat16_units", lambda: not units)
    monkeypatch.setattr(memory, "total_bytes", lambda device: 1)
    resume(tmp_path / "run", config=config)
    assert read_run_config(RunFolder.open(tmp_path / "run")) == made
    assert outcome(tmp_path / "run") == outcome(tmp_path / "whole")


def test_another_number_of_threads_is_refused(unfixed: RunConfig, tmp_path: Path) -> None:
    with cpu_threads(2), pytest.raises(KeyboardInterrupt):
        run(unfixed, tmp_path / "run", progress=Interrupting(8))
    with pytest.raises(RunFolderError, match="other settings: threads is 2 there, not 1"):
        resume(tmp_path / "run", config=replace(unfixed, threads=1))


def test_worker_processes_share_the_threads(unfixed: RunConfig) -> None:
    def resolved(workers: int) -> int:
        generation = replace(unfixed.generation, workers=workers)
        return with_threads(replace(unfixed, generation=generation)).threads

    with cpu_threads(8):
        assert [resolved(workers) for workers in (0, 1, 2, 3, 16)] == [8, 8, 4, 2, 1]


def test_another_machine_is_said_at_each_resume_and_recorded_once(
    small_config: RunConfig, tmp_path: Path
) -> None:
    with pytest.raises(KeyboardInterrupt):
        run(small_config, tmp_path / "run", progress=Interrupting(12))
    folder = RunFolder.open(tmp_path / "run")
    manifest = folder.read_manifest()
    elsewhere = {**manifest.environment, "torch": "1.0", "cpu instructions": "ALTIVEC"}
    folder.write_json(folder.manifest_file, replace(manifest, environment=elsewhere).to_json())
    for _ in range(2):
        progress = Listening(9)
        with pytest.raises(KeyboardInterrupt):
            resume(tmp_path / "run", progress=progress)
        (said,) = [sentence for sentence in progress.said if "another machine" in sentence]
        assert "torch was 1.0, is " in said
        assert "cpu instructions was ALTIVEC, is " in said
        assert "numpy" not in said
    assert folder.read_manifest().notes.count(said) == 1


def test_classifier_and_precision_are_those_of_a_baseline_trained_elsewhere(
    unfixed: RunConfig, tmp_path: Path
) -> None:
    """The baseline chose on its machine; the run must not choose again on another."""
    config = replace(
        unfixed,
        agent=replace(unfixed.agent, baseline=True, rounds=1),
        training=replace(unfixed.training, epochs=2),
    )
    with pytest.raises(KeyboardInterrupt):
        run(config, tmp_path / "run", progress=AtStage("read images", 2))
    inner = RunFolder(RunFolder(tmp_path / "run").baseline)
    decided = read_run_config(inner)
    assert decided.classifier.model == "tiny-resnet"
    smaller = replace(
        decided,
        classifier=replace(decided.classifier, size_px=24),
        training=replace(decided.training, mixed_precision="fp16"),
    )
    write_run_config(inner, smaller)  # and what stands on it, as if it had been so from the start
    manifest = replace(inner.read_manifest(), config_hash=settings_hash(smaller))
    inner.write_json(inner.manifest_file, manifest.to_json())
    inner.mark_done()
    with pytest.raises(KeyboardInterrupt):
        resume(tmp_path / "run", progress=AtStage("train", 1))
    made = read_run_config(RunFolder.open(tmp_path / "run"))
    assert (made.classifier.size_px, made.training.mixed_precision) == (24, "fp16")
