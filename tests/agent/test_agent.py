"""The round, step by step, and the ask/tell interface."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from gendataagent.agent.agent import Agent
from gendataagent.config import RunConfig
from gendataagent.core import files
from gendataagent.core.errors import RunFolderError, ScoreError
from gendataagent.core.protocols import Rewrite, RewriteRequest
from gendataagent.core.records import ModelDescription
from gendataagent.data import ImageSplits, load_data
from gendataagent.data.pixels import Pixels
from gendataagent.generation.backends import build_backends
from gendataagent.generation.executors import SerialExecutor
from gendataagent.training.classifier import Classifier

SIZE_PX = 32


@pytest.fixture
def splits(small_config: RunConfig) -> ImageSplits:
    return load_data(small_config.data, seed=small_config.seed)


@pytest.fixture
def classifier(splits: ImageSplits) -> Classifier:
    torch.manual_seed(0)
    network = nn.Sequential(nn.AvgPool2d(8), nn.Flatten(), nn.Linear(48, len(splits.class_names)))
    return Classifier.wrap(network, class_names=splits.class_names, size_px=SIZE_PX)


def test_a_round_selects_the_hardest_images_and_records_each_candidate(
    small_config: RunConfig, splits: ImageSplits, classifier: Classifier, tmp_path: Path
) -> None:
    agent = Agent.open(splits.train, config=small_config, out=tmp_path / "run")
    agent.tell(classifier, epoch=1)
    images = agent.ask(classifier, epoch=1)

    pixels = Pixels.from_images(splits.train, SIZE_PX)
    probabilities = classifier.predict_probabilities(pixels)
    true = probabilities[torch.arange(len(pixels)), pixels.labels]
    hardest = {splits.train.ids[i] for i in true.argsort()[:6].tolist()}  # a quarter of 24
    judged = agent.pool.candidates(0)
    assert {candidate.source_id for candidate in judged} == hardest
    assert len(judged) == 6 * 3
    for candidate in judged:
        expected = float(true[splits.train.index_of(candidate.source_id)])
        assert candidate.marginal_score == pytest.approx(expected)
        name = candidate.class_name
        assert candidate.prompt == f"A photo of {name}, which is {candidate.caption}"
        assert candidate.generator_revision
    assert len({candidate.prompt for candidate in judged}) > 6
    assert images.ids == tuple(c.id for c in judged if c.kept)
    assert len(images) == 18  # one snapshot only: VoG cannot score yet
    record = files.read_json(tmp_path / "run" / "rounds" / "000" / "record.json")
    assert "needs 2 snapshots" in record["notes"][0]


def test_vog_drops_its_share_of_each_class_given_two_snapshots(
    small_config: RunConfig, splits: ImageSplits, classifier: Classifier, tmp_path: Path
) -> None:
    agent = Agent.open(splits.train, config=small_config, out=tmp_path / "run")
    agent.tell(classifier, epoch=1)
    with torch.no_grad():
        for parameter in classifier.module.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    agent.tell(classifier, epoch=2)
    agent.ask(classifier, epoch=1)
    images = agent.ask(classifier, epoch=2)
    judged = agent.pool.candidates(1)
    made, kept = Counter(c.label for c in judged), Counter(images.labels)
    assert {label: made[label] - kept[label] for label in made} == {
        label: int(0.4 * count) for label, count in made.items()
    }
    assert all(candidate.vog is not None and candidate.vog > 0 for candidate in judged)
    for label in made:
        vogs = [(c.vog or 0, c.kept) for c in judged if c.label == label]
        worst_kept = min(vog for vog, is_kept in vogs if is_kept)
        assert all(vog <= worst_kept for vog, is_kept in vogs if not is_kept)


def test_ask_returns_the_latest_images_between_rounds_or_all_with_accumulate(
    small_config: RunConfig, splits: ImageSplits, classifier: Classifier, tmp_path: Path
) -> None:
    config = replace(small_config, agent=replace(small_config.agent, pool="accumulate"))
    agent = Agent.open(splits.train, config=config, out=tmp_path / "run")
    assert len(agent.ask(classifier, epoch=0)) == 0
    first = agent.ask(classifier, epoch=1)
    second = agent.ask(classifier, epoch=2)
    assert second.ids[: len(first)] == first.ids
    assert len(second) > len(first)
    assert agent.ask(classifier, epoch=3).ids == second.ids


def test_an_overdue_round_is_run_at_the_next_ask(
    small_config: RunConfig, splits: ImageSplits, classifier: Classifier, tmp_path: Path
) -> None:
    agent = Agent.open(splits.train, config=small_config, out=tmp_path / "run")  # rounds at 1 and 2
    assert {c.round for c in agent.ask(classifier, epoch=3).candidates} == {1}


def test_a_finished_round_is_not_run_again(
    small_config: RunConfig, splits: ImageSplits, classifier: Classifier, tmp_path: Path
) -> None:
    before = Agent.open(splits.train, config=small_config, out=tmp_path / "run").ask(
        classifier, epoch=1
    )
    record = tmp_path / "run" / "rounds" / "000" / "record.json"
    times = [path.stat().st_mtime_ns for path in (record, *before.paths)]
    again = Agent.open(splits.train, config=small_config, out=tmp_path / "run").ask(
        classifier, epoch=1
    )
    assert again.ids == before.ids
    assert [path.stat().st_mtime_ns for path in (record, *again.paths)] == times


def test_a_folder_with_other_settings_is_refused(
    small_config: RunConfig, splits: ImageSplits, tmp_path: Path
) -> None:
    Agent.open(splits.train, config=small_config, out=tmp_path / "run")
    with pytest.raises(RunFolderError, match="seed is 7 there, not 9"):
        Agent.open(splits.train, config=replace(small_config, seed=9), out=tmp_path / "run")


def test_a_classifier_is_left_as_found(
    small_config: RunConfig, splits: ImageSplits, classifier: Classifier, tmp_path: Path
) -> None:
    classifier.module.train()
    before = {k: v.clone() for k, v in classifier.module.state_dict().items()}
    agent = Agent.open(splits.train, config=small_config, out=tmp_path / "run")
    agent.tell(classifier, epoch=1)
    agent.tell(classifier, epoch=2)
    agent.ask(classifier, epoch=2)
    assert classifier.module.training
    assert all(parameter.requires_grad for parameter in classifier.module.parameters())
    after = classifier.module.state_dict()
    assert all(torch.equal(after[key], before[key]) for key in before)


def test_a_diverged_classifier_stops_the_round_before_any_image_is_made(
    small_config: RunConfig, splits: ImageSplits, classifier: Classifier, tmp_path: Path
) -> None:
    with torch.no_grad():
        next(classifier.module.parameters()).fill_(float("nan"))
    agent = Agent.open(splits.train, config=small_config, out=tmp_path / "run")
    with pytest.raises(ScoreError, match=r"\.png"):
        agent.ask(classifier, epoch=1)
    assert not list((tmp_path / "run").glob("pool/*/*.png"))


class Counting:
    """A rewriter that counts its requests and releases."""

    description = ModelDescription(name="counting")

    def __init__(self, *, fail_after: int = 1_000) -> None:
        self.asked, self.released, self.fail_after = 0, 0, fail_after

    def rewrite(self, requests: Sequence[RewriteRequest]) -> list[tuple[Rewrite, ...]]:
        if self.asked >= self.fail_after:
            raise KeyboardInterrupt
        self.asked += len(requests)
        return [
            tuple(Rewrite(text=f"grey {s % 97}", by="half" if s % 2 else "") for s in r.seeds)
            for r in requests
        ]

    def release(self) -> None:
        self.released += 1


def test_interrupted_rewriting_repeats_no_request(
    small_config: RunConfig, splits: ImageSplits, classifier: Classifier, tmp_path: Path
) -> None:
    prompting = replace(small_config.prompting, batch_size=1, endpoint_concurrency=1)
    small_config = replace(small_config, prompting=prompting)  # two sources a batch
    backends = build_backends(small_config)
    first, second = Counting(fail_after=4), Counting()
    out = tmp_path / "run"
    agent = Agent.open(
        splits.train, config=small_config, out=out, backends=replace(backends, rewriter=first)
    )
    with pytest.raises(KeyboardInterrupt):
        agent.ask(classifier, epoch=1)
    agent = Agent.open(
        splits.train, config=small_config, out=out, backends=replace(backends, rewriter=second)
    )
    agent.ask(classifier, epoch=1)
    assert (first.asked, second.asked) == (4, 2)  # of 6 sources
    record = files.read_json(out / "rounds" / "000" / "record.json")
    counts = Counter(c.rewritten_by for c in agent.pool.candidates(0))
    assert record["rewriting"] == {"taken": counts[None], "replaced by half": counts["half"]}
    assert counts[None] + counts["half"] == 18


@pytest.mark.parametrize(("wanted", "released"), [("always", 1), ("never", 0)])
def test_models_are_released_after_their_stage_if_set_and_memory_is_recorded(
    wanted: str, released: int, small_config: RunConfig, splits: ImageSplits,
    classifier: Classifier, tmp_path: Path,
) -> None:  # fmt: skip
    config = replace(small_config, agent=replace(small_config.agent, release_models=wanted))
    rewriter = Counting()
    executor = SerialExecutor()
    backends = replace(build_backends(config), rewriter=rewriter, executor=executor)
    Agent.open(splits.train, config=config, out=tmp_path / "run", backends=backends).ask(
        classifier, epoch=1
    )
    assert rewriter.released == released
    assert (executor._built is None) == bool(released)
    record = files.read_json(tmp_path / "run" / "rounds" / "000" / "record.json")
    stages = {"select", "caption", "rewrite", "render", "filter"}
    assert set(record["peak_memory_mib"]) == set(record["seconds"]) == stages
    assert min(record["peak_memory_mib"].values()) > 50
