"""Feedback in the rounds of an agent and of a run."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch
from torch import nn

from gendataagent.agent.agent import Agent
from gendataagent.config import RunConfig
from gendataagent.core import files
from gendataagent.core.errors import ConfigError, RunFolderError
from gendataagent.core.records import ModelDescription
from gendataagent.data import ImageSplits, load_data
from gendataagent.data.pixels import Pixels
from gendataagent.generation.backends import Backends, build_backends
from gendataagent.training.classifier import Classifier

SIZE_PX = 32


@pytest.fixture
def config(small_config: RunConfig) -> RunConfig:
    """Two rounds with a fixed scale; a tiny classifier reacts to coloured noise only strongly."""
    return with_feedback(small_config)


def with_feedback(config: RunConfig, **changes: Any) -> RunConfig:
    settings = {"feedback": "loss", "feedback_scale": 0.2, "feedback_images": 6, **changes}
    return replace(config, generation=replace(config.generation, **settings))


@pytest.fixture
def splits(config: RunConfig) -> ImageSplits:
    return load_data(config.data, seed=config.seed)


@pytest.fixture
def classifier(splits: ImageSplits) -> Classifier:
    torch.manual_seed(0)
    head = nn.Linear(48, len(splits.class_names))
    nn.init.normal_(head.weight, std=3.0)
    network = nn.Sequential(nn.AvgPool2d(8), nn.Flatten(), head)
    return Classifier.wrap(network, class_names=splits.class_names, size_px=SIZE_PX)


def opened(config: RunConfig, splits: ImageSplits, out: Path, **options: Any) -> Agent:
    validation = Pixels.from_images(splits.validation, SIZE_PX)
    return Agent.open(splits.train, config=config, out=out, validation=validation, **options)


def images_of(agent: Agent) -> dict[str, bytes]:
    return {c.id: agent.pool.image(c).tobytes() for c in agent.pool.candidates(0)}


def record_of(out: Path, number: int = 0) -> dict[str, Any]:
    record: dict[str, Any] = files.read_json(out / "rounds" / f"{number:03d}" / "feedback.json")
    return record


def test_a_fixed_scale_is_in_every_record_and_moves_the_images(
    config: RunConfig, splits: ImageSplits, classifier: Classifier, tmp_path: Path
) -> None:
    agent = opened(config, splits, tmp_path / "guided")
    agent.ask(classifier, epoch=1)
    twin = opened(with_feedback(config, feedback="none"), splits, tmp_path / "twin")
    twin.ask(classifier, epoch=1)
    guided, plain = images_of(agent), images_of(twin)
    assert guided.keys() == plain.keys()  # same sources and seeds
    assert all(guided[id_] != plain[id_] for id_ in guided)

    record = record_of(tmp_path / "guided")
    assert (record["criterion"], record["scale"], record["reason"]) == ("loss", 0.2, "fixed")
    plain_p, guided_p = record["plain"]["p_true"], record["guided"]["p_true"]
    assert sum(guided_p) < sum(plain_p)
    for candidate in agent.pool.candidates(0):
        assert candidate.feedback == "loss"
        assert candidate.feedback_scale == 0.2
        assert candidate.guide == record["guide"]
    table = pq.read_table(tmp_path / "guided" / "pool" / "000" / "metadata.parquet")
    assert set(table.column("guide").to_pylist()) == {record["guide"]}

    folder = tmp_path / "guided" / "rounds" / "000"
    assert not (folder / "guide.safetensors").exists()  # its hash stays
    for id_ in record["candidates"]:  # the same image without feedback, for the report
        assert (folder / "plain" / f"{id_}.png").is_file()
    note = files.read_json(folder / "record.json")["notes"][-1]
    assert note.startswith(
        "Feedback by loss, scale 0.2, changes p(true class) of synthetic images from "
    )


def test_auto_makes_images_as_hard_as_validation_images(
    config: RunConfig, splits: ImageSplits, classifier: Classifier, tmp_path: Path
) -> None:
    config = with_feedback(config, feedback_scale="auto", feedback_images=18)
    agent = opened(config, splits, tmp_path / "run")
    agent.ask(classifier, epoch=1)
    record = record_of(tmp_path / "run")
    held_out = Pixels.from_images(splits.validation, SIZE_PX)
    probabilities = classifier.predict_probabilities(held_out)
    per_class = [
        float(probabilities[held_out.labels == label, label].mean())
        for label in range(len(splits.class_names))
    ]
    labels = record["plain"]["labels"]
    assert record["target"] == pytest.approx(
        sum(per_class[label] for label in labels) / len(labels), abs=1e-4
    )
    plain = sum(record["plain"]["p_true"]) / len(labels)
    if plain <= record["target"] + 0.02:
        assert (record["scale"], record["reason"]) == (0.0, "no gap")
    else:
        assert record["scale"] > 0
        assert sum(record["guided"]["p_true"]) / len(labels) >= record["target"] - 0.021


def test_auto_can_aim_at_harder_than_validation_images(
    config: RunConfig, splits: ImageSplits, classifier: Classifier, tmp_path: Path
) -> None:
    config = with_feedback(config, feedback_scale="auto", feedback_images=18)
    harder = with_feedback(config, feedback_scale="auto", feedback_images=18, feedback_target=0.5)
    opened(config, splits, tmp_path / "as hard").ask(classifier, epoch=1)
    opened(harder, splits, tmp_path / "harder").ask(classifier, epoch=1)
    target = record_of(tmp_path / "as hard")["target"]
    assert record_of(tmp_path / "harder")["target"] == pytest.approx(target / 2)


def test_the_probes_of_the_chosen_scale_are_not_made_twice(
    config: RunConfig, splits: ImageSplits, classifier: Classifier, tmp_path: Path
) -> None:
    made: list[str] = []
    backends = build_backends(config)

    class Counting:
        def map(self, factory: Any, tasks: Any) -> Any:
            def counted() -> Any:
                for task in tasks:
                    made.extend(
                        f"{request.seed} {request.feedback.scale if request.feedback else 0}"
                        for request in task
                    )
                    yield task

            return backends.executor.map(factory, counted())

        def release(self) -> None:
            backends.executor.release()

    counting = replace(backends, executor=Counting())
    agent = opened(config, splits, tmp_path / "run", backends=counting)
    agent.ask(classifier, epoch=1)
    assert len(made) == len(set(made)) == len(agent.pool.candidates(0)) + 6


def test_a_round_before_any_training_and_rounds_before_the_first_have_none(
    config: RunConfig, splits: ImageSplits, classifier: Classifier, tmp_path: Path
) -> None:
    start = replace(config, agent=replace(config.agent, first_round_epoch=0))
    opened(start, splits, tmp_path / "a").ask(classifier, epoch=0)
    assert record_of(tmp_path / "a")["reason"] == "untrained"
    later = with_feedback(config, feedback_first_round=1)
    agent = opened(later, splits, tmp_path / "b")
    agent.ask(classifier, epoch=1)
    agent.ask(classifier, epoch=2)
    assert record_of(tmp_path / "b")["reason"] == "earlier round"
    assert record_of(tmp_path / "b", 1)["reason"] == "fixed"
    assert {c.feedback for c in agent.pool.candidates(0)} == {None}


def test_a_round_cannot_be_completed_by_a_classifier_with_other_weights(
    config: RunConfig, splits: ImageSplits, classifier: Classifier, tmp_path: Path
) -> None:
    class Stopping:
        def __init__(self, inner: Any) -> None:
            self.inner, self.left = inner, 10

        def map(self, factory: Any, tasks: Any) -> Any:
            for results in self.inner.map(factory, tasks):
                self.left -= 1
                if not self.left:
                    raise KeyboardInterrupt
                yield results

        def release(self) -> None:
            self.inner.release()

    config = replace(config, generation=replace(config.generation, chunk_size=2, batch_size=2))
    backends = build_backends(config)
    stopping = replace(backends, executor=Stopping(backends.executor))
    with pytest.raises(KeyboardInterrupt):
        opened(config, splits, tmp_path / "run", backends=stopping).ask(classifier, epoch=1)
    with torch.no_grad():
        classifier.head().weight.add_(0.01)
    with pytest.raises(RunFolderError, match="a classifier with other weights"):
        opened(config, splits, tmp_path / "run").ask(classifier, epoch=1)


def test_the_guides_hash_covers_how_it_sees_images(
    config: RunConfig, splits: ImageSplits, classifier: Classifier, tmp_path: Path
) -> None:
    opened(config, splits, tmp_path / "a").ask(classifier, epoch=1)
    other = Classifier.wrap(
        classifier.module, class_names=splits.class_names, size_px=SIZE_PX, mean=(0.5, 0.5, 0.5)
    )
    opened(config, splits, tmp_path / "b").ask(other, epoch=1)
    assert record_of(tmp_path / "a")["guide"] != record_of(tmp_path / "b")["guide"]


def test_what_cannot_work_is_refused_at_once(
    config: RunConfig, splits: ImageSplits, tmp_path: Path
) -> None:
    auto = with_feedback(config, feedback_scale="auto")
    with pytest.raises(ConfigError, match=r"validation=.*feedback_scale=0.06"):
        Agent.open(splits.train, config=auto, out=tmp_path / "a")

    class Own:
        def __call__(self) -> Any: ...

        def describe(self) -> ModelDescription:
            return ModelDescription(name="own")

    backends: Backends = replace(build_backends(config), generator=Own())
    with pytest.raises(ConfigError, match="Own has no with_guide"):
        opened(config, splits, tmp_path / "b", backends=backends)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"feedback": "entrpy"}, "generation.feedback must be one of none, entropy"),
        ({"feedback": "random", "feedback_scale": "auto"}, "must be a number"),
        ({"feedback_scale": "much"}, "generation.feedback_scale must be a number or auto"),
        ({"feedback_scale": 0}, "must be above 0"),
        ({"feedback_steps": [0.5]}, "two increasing shares"),
        ({"feedback_views": 7}, "at most 6"),
        ({"feedback_target": 0}, "must be above 0"),
        ({"feedback_first_round": 2}, "no round has feedback"),
    ],
)
def test_wrong_settings_are_named(config: RunConfig, changes: dict[str, Any], message: str) -> None:
    from gendataagent.runs.preflight import problems

    tree = config.to_dict()
    tree["generation"] |= changes
    with pytest.raises(ConfigError, match=message):
        RunConfig.from_dict(tree, problems)
