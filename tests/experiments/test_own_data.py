"""Experiments and comparisons name their data, and refuse to mix data."""

from __future__ import annotations

from typing import Any

import pytest

from gendataagent.config import RunConfig
from gendataagent.core.errors import ConfigError
from gendataagent.core.progress import SilentProgress
from gendataagent.experiments.catalogue import find_benchmark
from gendataagent.experiments.compare import check_same_data
from gendataagent.experiments.experiment import warn_of_unknown_classes
from gendataagent.experiments.page import page
from gendataagent.experiments.report import benchmark_report, comparison_report
from gendataagent.experiments.writing import markdown

from .made_up import rows_of

FRUIT = "photos/fruit 14"


def rows(**more: Any) -> list[dict[str, Any]]:
    found = rows_of({"only-real": [0.4, 0.5], "gendataagent": [0.5, 0.65]})
    same = {"data": FRUIT, "classes": "c", "test_images": "t", "train_images": "r"}
    return [{**row, **same, **more} for row in found]


def test_an_experiment_on_other_data_is_named_after_them() -> None:
    benchmark = find_benchmark("fewshot-cifar10").with_settings({"data": {"path": FRUIT}})
    assert benchmark.title == "fewshot-cifar10 on photos/fruit 14"
    assert benchmark.folder_name == "experiment-fewshot-cifar10-fruit-14"
    assert benchmark.base["data"]["path"] == FRUIT
    assert "few-shot CIFAR-10" not in benchmark.about
    assert "at most 50 training images a class" in benchmark.about
    report = benchmark_report(rows(), benchmark)
    for text in (markdown(report, "plots"), page(report)):
        assert "fewshot-cifar10 on photos/fruit 14" in text
        assert text.count(FRUIT) >= 3  # title, what was compared, facts
        assert "few-shot CIFAR-10" not in text


def test_on_its_own_data_it_keeps_its_name() -> None:
    own = find_benchmark("fewshot-cifar10")
    again = own.with_settings({"training": {"epochs": 3}})
    assert (again.title, again.about) == (own.name, own.about)
    assert again.folder_name == "experiment-fewshot-cifar10"


def test_the_same_data_are_compared() -> None:
    check_same_data(rows())
    found = rows()
    for row in found:  # a test split drawn by seed differs from seed to seed
        row["test_images"] = f"of seed {row['seed']}"
    check_same_data(found)
    check_same_data([{**row, "test_images": None, "classes": None} for row in found] + found)


@pytest.mark.parametrize(("key", "what"), [("test_images", "test images"), ("classes", "classes")])
def test_different_data_are_refused(key: str, what: str) -> None:
    found = rows()
    found[-1] |= {key: "other", "data": "photos/cars"}
    with pytest.raises(ConfigError) as caught:
        check_same_data(found)
    assert f"have different {what}" in str(caught.value)
    assert "photos/fruit 14 and photos/cars" in str(caught.value)
    assert "gendataagent-seed1" in str(caught.value)


def test_runs_of_other_seeds_must_have_the_same_classes_too() -> None:
    first, second = rows()[0], rows()[3]
    check_same_data([first, second | {"test_images": "another split"}])
    with pytest.raises(ConfigError, match="different classes"):
        check_same_data([first, second | {"classes": "other"}])


def test_other_training_images_are_said() -> None:
    found = rows()
    found[-1]["train_images"] = "fewer"
    facts = " ".join(comparison_report(found).facts)
    assert "**Arms of one seed were trained on different images** (seeds 1)" in facts
    assert "different images" not in " ".join(comparison_report(rows()).facts)


@pytest.mark.parametrize("generator", ["auto", "tiny-sd"])
def test_classes_that_the_generator_cannot_draw_are_said(
    generator: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    progress = SilentProgress()
    monkeypatch.setattr(progress, "say", said.append)
    config = RunConfig.from_dict({"device": "cpu", "generation": {"generator": generator}})
    warn_of_unknown_classes(config, ("cat", "papaya"), progress)
    assert len(said) == 1
    assert "papaya" in said[0]
    warn_of_unknown_classes(config, ("cat", "dog"), progress)
    assert len(said) == 1
