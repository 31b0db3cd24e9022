"""A run with feedback and a baseline: the second opinion, and the plan's counts against the run."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from gendataagent.agent.feedback.opinion import SecondOpinion
from gendataagent.agent.pool import Pool
from gendataagent.core import files
from gendataagent.core.rows import read_record
from gendataagent.core.run_folder import RunFolder
from gendataagent.data.pixels import Pixels
from gendataagent.generation.feedback import steering
from gendataagent.report import write_report
from gendataagent.runs.planning import Plan, make_plan
from gendataagent.runs.reload import load_classifier
from gendataagent.runs.run import run
from gendataagent.runs.second_opinion import write_second_opinion
from gendataagent.runs.splits import read_splits
from gendataagent.runs.verify import verify

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def guided(
    photo_folder: Path, tiny_pipeline_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[RunFolder, Plan, Counter[str]]:
    """A run with a fixed scale, its plan, and how often each part of feedback was called."""
    from tests.small_world import settings_for

    base = settings_for(photo_folder, tiny_pipeline_folder)
    config = replace(
        base,
        generation=replace(
            base.generation,
            feedback="loss", feedback_scale=0.2, feedback_images=6, feedback_steps=(0.0, 0.5),
            batch_size=1,
        ),
        agent=replace(base.agent, baseline=True),
    )  # fmt: skip
    called: Counter[str] = Counter()
    change = steering._change

    def counted(clean: Any, *others: Any) -> Any:
        called["steps"] += len(clean)
        return change(clean, *others)

    path = tmp_path_factory.mktemp("guided") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(steering, "_change", counted)
        run(config, path)
    return RunFolder.open(path), make_plan(config), called


def test_it_is_the_mean_of_the_baselines_own_predictions(
    guided: tuple[RunFolder, Plan, Counter[str]],
) -> None:
    folder, _, _ = guided
    opinion = read_record(SecondOpinion, folder.second_opinion_file)
    assert [one.round for one in opinion.rounds] == [0, 1]
    classifier = load_classifier(folder.baseline)
    one, ids = opinion.rounds[1], files.read_json(folder.round(1) / "feedback.json")["candidates"]
    of_id = {c.id: c for c in Pool(folder, ()).candidates(1)}
    probes = [of_id[id_] for id_ in ids]
    train = read_splits(folder.path).train
    parts: dict[str, list[Image.Image]] = {
        "sources": [train.image(train.index_of(c.source_id)) for c in probes],
        "plain": [Image.open(folder.round(1) / "plain" / c.file_name) for c in probes],
        "guided": [Image.open(folder.pool(1) / c.file_name) for c in probes],
    }
    labels = [c.label for c in probes]
    for name, images in parts.items():
        pixels = Pixels.from_pil(images, labels, ids=ids, size_px=classifier.resize_px)
        p_NC = classifier.predict_probabilities(pixels)
        mean = sum(float(p_NC[i, label]) for i, label in enumerate(labels)) / len(labels)
        assert getattr(one, name).p_true == pytest.approx(mean, abs=1e-5)
    assert one.images == len(ids) == 6


def test_it_is_sealed_and_shown(guided: tuple[RunFolder, Plan, Counter[str]]) -> None:
    folder, _, _ = guided
    assert all(part.whole for part in verify(folder.path))
    page = write_report(folder.path, folder.path.parent / "page.html").read_text()
    assert "Agreement of a second network" in page
    content = folder.second_opinion_file.read_bytes()
    folder.second_opinion_file.write_bytes(content.replace(b"0.", b"0.9", 1))
    damaged = [d.path.name for part in verify(folder.path) for d in part.damaged]
    assert "second_opinion.json" in damaged
    folder.second_opinion_file.write_bytes(content)


def test_the_plan_counts_what_feedback_made(
    guided: tuple[RunFolder, Plan, Counter[str]],
) -> None:
    folder, plan, called = guided
    counts = plan.counts
    records = [files.read_json(p) for p in sorted(folder.path.glob("rounds/*/feedback.json"))]
    assert counts.feedback_rounds == sum(bool(record["scale"]) for record in records) == 2
    plain = list(folder.path.glob("rounds/*/plain/*.png"))
    assert counts.feedback_images == len(plain) == 12  # at one scale, whose images are used
    assert counts.feedback_steps == called["steps"] > 0


def test_without_a_baseline_or_guided_rounds_nothing_is_written(
    guided: tuple[RunFolder, Plan, Counter[str]], tmp_path: Path
) -> None:
    folder, _, _ = guided
    train = read_splits(folder.path).train
    assert write_second_opinion(folder, train, rounds=[]) is None
    other = RunFolder(tmp_path / "other")
    assert write_second_opinion(other, train, rounds=range(2)) is None
    assert not other.second_opinion_file.exists()
