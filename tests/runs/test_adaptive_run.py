"""A complete run with adaptive thresholds and the baseline guard, tiny and real."""

from __future__ import annotations

import contextlib
import shutil
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from gendataagent.agent.adaptive import read_probes
from gendataagent.agent.adaptive.decision import HURTS_VALIDATION
from gendataagent.agent.agent import Agent
from gendataagent.agent.budget import generated_images
from gendataagent.cli.shared import print_result
from gendataagent.config import RunConfig
from gendataagent.config.run_config_file import create_run_folder, read_run_config
from gendataagent.core import files
from gendataagent.core.errors import ConfigError, DataError
from gendataagent.core.progress import Stage
from gendataagent.core.run_folder import RunFolder
from gendataagent.data import load_data
from gendataagent.data.pixels import Pixels
from gendataagent.runs.planning.counts import count_real, count_work
from gendataagent.runs.reload import load_classifier
from gendataagent.runs.results import read_result
from gendataagent.runs.run import resume, run, run_until
from gendataagent.training.classifier import Classifier
from gendataagent.training.evaluation import evaluate
from gendataagent.training.trainer import Trainer
from tests.runs.test_resume import Interrupting, outcome
from tests.small_world import settings_for
from tests.tables import rows_of

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def config(photo_folder: Path, tiny_pipeline_folder: Path) -> RunConfig:
    tree = settings_for(photo_folder, tiny_pipeline_folder).to_dict()
    tree["agent"] |= {"guard": True, "pool": "accumulate"}
    tree["generation"] |= {"num_inference_steps": 4}
    tree["adaptive"] = {
        "enabled": True,
        "strengths": [0.25, 0.75],
        "shares": [0.25, 0.5],
        "drop_shares": [0.0, 0.5],
        "probe_steps": 2,
    }
    return RunConfig.from_dict(tree)


@pytest.fixture(scope="module")
def reference(config: RunConfig, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, int]:
    """The folder of an uninterrupted run, and how many progress events it had."""
    path = tmp_path_factory.mktemp("reference") / "run"
    progress = Interrupting()
    run(config, path, progress=progress)
    return path, progress.events


def everything(path: Path) -> dict[str, Any]:
    """Return all that must not depend on interruptions; what probes took in seconds may."""
    probes = {
        file.parent.name: [replace(probe, seconds=0) for probe in read_probes(file)]
        for file in sorted((path / "rounds").glob("*/probes.jsonl"))
    }
    records = [files.read_json(file) for file in sorted((path / "rounds").glob("*/record.json"))]
    guard = {file.name: file.read_text() for file in sorted((path / "guard").iterdir())}
    baseline = {file.name: file.read_text() for file in (path / "baseline" / "guard").iterdir()}
    said = [(record["choices"], record["notes"]) for record in records]
    return {"probes": probes, "said": said, "guard": guard, "baseline": baseline, **outcome(path)}


def test_a_round_makes_its_budget_and_keeps_the_chosen_options(
    config: RunConfig, reference: tuple[Path, int]
) -> None:
    path, _ = reference
    result = read_result(path)
    assert result.images_made == generated_images(config, [8, 8, 8]) == 2 * 6 * 3
    for record in result.rounds:
        assert (record.selected, record.made) == (12, 18)  # half of 24; a quarter of 24, thrice
        rows = rows_of(path / "rounds" / f"{record.round:03d}" / "judged.parquet")
        batches = files.read_jsonl(path / "rounds" / f"{record.round:03d}" / "rendered.jsonl")
        strength_of = {row["id"]: row["strength"] for row in rows}
        drawn = [strength_of[id_] for batch in batches for id_ in batch["made"]]
        assert drawn == sorted(row["strength"] for row in rows)  # one strength after the other
        assert set(drawn) == {0.25, 0.75}
        assert {row["num_inference_steps"] for row in rows} == {4}
        reasons = Counter(row["rejected_by"] for row in rows)
        assert dict(record.rejected) == {k: v for k, v in reasons.items() if k is not None}
        strength = record.choices["strength"]
        kept = [row for row in rows if row["rejected_by"] is None]
        if HURTS_VALIDATION in reasons:
            assert not kept
        elif strength is not None:
            assert {row["strength"] for row in kept} == {strength}
        probes = read_probes(path / "rounds" / f"{record.round:03d}" / "probes.jsonl")
        assert probes[0].knob == "none"
        assert record.seconds["probe"] == pytest.approx(sum(p.seconds for p in probes))
        assert record.peak_memory_mib["probe"] > 0
        assert "validation log-loss" in record.notes[-1]
    assert "needs 2 snapshots" in result.rounds[0].notes[0]


def test_a_plan_counts_the_probes(config: RunConfig, reference: tuple[Path, int]) -> None:
    counts = count_work(config, count_real(config))
    result = read_result(reference[0])
    assert counts.baseline
    assert counts.images == result.images_made
    assert counts.selected_per_round == result.rounds[0].selected
    assert result.baseline is not None
    assert counts.optimizer_steps == result.optimizer_steps + result.baseline.optimizer_steps
    tried = [len(read_probes(file)) for file in (reference[0] / "rounds").glob("*/probes.jsonl")]
    assert max(tried) * 2 <= counts.probe_steps / 2 <= 8 * 2
    assert counts.steps_per_image == 2  # of 1 and 3
    plain = replace(config, adaptive=replace(config.adaptive, enabled=False))
    assert count_work(plain, count_real(plain)).probe_steps == 0


class InterruptingAt(Interrupting):
    """Raises KeyboardInterrupt at the n-th item of a stage, counted over the run."""

    def __init__(self, name: str, at: int) -> None:
        super().__init__()
        self.name, self.left, self.current = name, at, ""

    @contextlib.contextmanager
    def stage(
        self, name: str, total: int | None = None, unit: str = "", done: int = 0
    ) -> Iterator[Stage]:
        before, self.current = self.current, name
        yield self
        self.current = before

    def advance(self, amount: float = 1) -> None:
        self.left -= self.current == self.name
        if self.left == 0 and self.current == self.name:
            raise KeyboardInterrupt


def interrupted(config: RunConfig, reference: Path, out: Path, at: Interrupting) -> None:
    """Start a run whose baseline exists already, which costs less, and stop it."""

    create_run_folder(out, config)
    shutil.copytree(reference / "baseline", out / "baseline")
    with pytest.raises(KeyboardInterrupt):
        resume(out, progress=at)


@pytest.mark.parametrize("probe", [pytest.param(4, marks=pytest.mark.slow), 12])
def test_interrupted_during_probes_it_ends_the_same(
    config: RunConfig, reference: tuple[Path, int], tmp_path: Path, probe: int
) -> None:
    out = tmp_path / "run"
    interrupted(config, reference[0], out, InterruptingAt("probe", probe))
    assert len(read_probes(out / "rounds" / f"{probe // 8:03d}" / "probes.jsonl")) >= 4
    resume(out)
    assert everything(out) == everything(reference[0])


@pytest.mark.slow
@pytest.mark.parametrize("share", [0.05, 0.2, 0.35, 0.5, 0.6, 0.7, 0.8, 0.9, 0.97])
def test_interrupted_anywhere_then_resumed(
    config: RunConfig, reference: tuple[Path, int], tmp_path: Path, share: float
) -> None:
    path, events = reference
    with pytest.raises(KeyboardInterrupt):
        run(config, tmp_path / "run", progress=Interrupting(max(1, int(share * events))))
    resume(tmp_path / "run")
    assert everything(tmp_path / "run") == everything(path)


def test_the_baseline_is_the_same_training_without_the_agent(
    config: RunConfig, reference: tuple[Path, int], tmp_path: Path
) -> None:
    alone = replace(config, agent=replace(config.agent, enabled=False, guard=False))
    run(alone, tmp_path / "run")
    mine, theirs = (
        outcome_of_training(tmp_path / "run"),
        outcome_of_training(reference[0] / "baseline"),
    )
    assert mine == theirs
    # no synthetic images yet: the run itself is that training too
    first = files.read_jsonl(reference[0] / "metrics.jsonl")[0]
    assert first["loss"] == theirs["metrics"][0]["loss"]


def outcome_of_training(path: Path) -> dict[str, Any]:
    rows = files.read_jsonl(path / "metrics.jsonl")
    for row in rows:
        del row["seconds"]
    return {
        "metrics": rows,
        "weights": (path / "classifier" / "model.safetensors").read_bytes(),
        "test": files.read_json(path / "evaluation.json"),
    }


@pytest.mark.parametrize(("baseline_top1", "chosen"), [(1.0, "baseline"), (0.0, "agent")])
def test_the_run_ends_with_the_classifier_that_does_better_on_validation(
    reference: tuple[Path, int], tmp_path: Path, capsys: pytest.CaptureFixture[str],
    baseline_top1: float, chosen: str,
) -> None:  # fmt: skip
    out = tmp_path / "run"
    shutil.copytree(reference[0], out)
    for name in ("DONE", "evaluation.json", "guard/outcome.json"):
        (out / name).unlink()
    theirs = files.read_json(out / "baseline" / "evaluation.json")
    theirs["validation"]["top1"] = baseline_top1
    files.write_json(out / "baseline" / "evaluation.json", theirs)
    RunFolder(out / "baseline").mark_done()  # as if it had been the outcome
    result = resume(out)  # from its last checkpoint: only the end is done again
    assert result.guard is not None
    assert result.guard.chosen == chosen
    assert result.guard.baseline_top1 == baseline_top1
    weights, baseline_weights = (
        (path / "classifier" / "model.safetensors").read_bytes() for path in (out, out / "baseline")
    )
    same = weights == baseline_weights
    assert same is (chosen == "baseline")
    config = read_run_config(RunFolder.open(out))
    test = load_data(config.data, seed=config.seed).test
    classifier = load_classifier(out)
    measured = evaluate(classifier, Pixels.from_images(test, classifier.resize_px), "test")
    assert measured == result.evaluations["test"]
    assert (files.read_json(out / "evaluation.json") == theirs) is same
    assert result.images_made == 36
    print_result(result)
    printed = capsys.readouterr().out
    words = " ".join(printed.split())
    assert words.count(f"trained with{'out' if same else ''} the agent") == 1
    assert ("Verdict: The agent did not help on 12 validation images." in words) is same
    assert ("points of top-1 on 12 test images" in words) is not same


def test_a_run_that_gave_up_makes_no_images_and_trains_on_none(
    config: RunConfig, reference: tuple[Path, int], tmp_path: Path
) -> None:
    out = tmp_path / "run"
    run_until(config, out, 2)
    shutil.copytree(reference[0] / "baseline", out / "baseline")
    row = {"epoch": 2, "images": 12, "only_agent": 0, "only_baseline": 12, "p_value": 0.0,
           "worse": True, "stopped": True}  # fmt: skip
    RunFolder(out).write_jsonl(out / "guard" / "checks.jsonl", [row])
    result = resume(out)
    assert [record.round for record in result.rounds] == [0]
    assert result.images_made == 18
    epochs = files.read_jsonl(out / "metrics.jsonl")
    assert [epoch["synthetic_images"] for epoch in epochs] == [
        0, result.rounds[0].kept, 0, 0,
    ]  # fmt: skip
    assert [epoch["optimizer_steps"] for epoch in epochs] == [2, 2, 2, 2]
    assert result.guard is not None
    assert result.guard.stopped_epoch == 2


def classifier_for(names: tuple[str, ...]) -> Classifier:
    torch.manual_seed(0)
    network = nn.Sequential(nn.AvgPool2d(8), nn.Flatten(), nn.Linear(48, len(names)))
    return Classifier.wrap(network, class_names=names, size_px=32)


def test_ask_and_tell_need_the_trainer_and_validation_images(
    config: RunConfig, tmp_path: Path
) -> None:
    splits = load_data(config.data, seed=config.seed)
    with pytest.raises(ConfigError, match=r"only gendataagent\.run"):
        Agent.open(splits.train, config=config, out=tmp_path / "a")
    config = replace(config, agent=replace(config.agent, guard=False))
    with pytest.raises(ConfigError, match=r"Agent\.open"):
        Agent.open(splits.train, config=config, out=tmp_path / "b")
    classifier = classifier_for(splits.class_names)
    trainer = Trainer(classifier, config.training, seed=1)
    with pytest.raises(DataError, match="there are 0"):
        Agent.open(splits.train, config=config, out=tmp_path / "c", trainer=trainer)
    agent = Agent.open(
        splits.train, config=config, out=tmp_path / "d", trainer=trainer,
        validation=Pixels.from_images(splits.validation, 64),
    )  # fmt: skip
    images = agent.ask(classifier, epoch=1)
    record = files.read_json(tmp_path / "d" / "rounds" / "000" / "record.json")
    assert record["kept"] == len(images)
    assert {"strength", "share", "drop_share", "gain"} <= set(record["choices"])


def test_the_report_names_the_guards_classifier_and_the_choices(
    reference: tuple[Path, int],
) -> None:
    from gendataagent.report import write_report

    page = write_report(reference[0]).read_text(encoding="utf-8")
    result = read_result(reference[0])
    assert result.guard is not None
    assert (
        f"The guard chose the classifier trained with{'out' * (result.guard.chosen != 'agent')} the"
        in page
    )
    assert "validation log-loss" in page
