"""Strategies in complete runs: images made and trained on are those of the budget."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from gendataagent.agent.budget import generated_images, match_budget
from gendataagent.agent.pool import Pool
from gendataagent.config import RunConfig
from gendataagent.config.strategies import apply
from gendataagent.core import files
from gendataagent.core.run_folder import RunFolder
from gendataagent.runs.reload import load_classifier
from gendataagent.runs.run import run

pytestmark = pytest.mark.integration

EIGHT_OF_EACH = [8, 8, 8]  # training photographs, see conftest
BUDGET = 24


@pytest.mark.parametrize("name", ["real-fake", "only-synthetic", "internet-explorer", "vog-low"])
def test_a_strategy_makes_its_budget_and_trains_on_the_right_images(
    name: str, small_config: RunConfig, tmp_path: Path
) -> None:
    matched = match_budget(apply(small_config, name), EIGHT_OF_EACH, BUDGET)
    result = run(matched.config, tmp_path / "run")
    assert result.images_made == matched.generated == BUDGET + matched.difference
    assert matched.generated == generated_images(matched.config, EIGHT_OF_EACH)
    assert abs(matched.difference) <= 2
    metrics = files.read_jsonl(tmp_path / "run" / "metrics.jsonl")
    story = Pool(RunFolder.open(tmp_path / "run"), ("a", "b", "c")).candidates(0)
    if name in ("real-fake", "only-synthetic"):
        assert set(Counter(c.source_id for c in story).values()) == {1}  # each equally often
        assert [row["synthetic_images"] for row in metrics] == [BUDGET] * 4
        assert {c.prompt for c in story} == {
            f"A photo of {c.class_name}, which is {c.source_caption}" for c in story
        }
    else:
        assert metrics[0]["synthetic_images"] == 0  # the first round comes after an epoch
    reals = {row["real_images"] for row in metrics}
    assert reals == ({0} if name == "only-synthetic" else {24})
    if name == "internet-explorer":
        made, kept = Counter(c.label for c in story), Counter(c.label for c in story if c.kept)
        assert all(kept[label] == made[label] - made[label] // 2 for label in made)
        assert {c.rejected_by for c in story} == {None, "knn"}


@pytest.mark.parametrize("name", ["only-real", "randaugment", "cutmix", "mixup"])
def test_without_the_agent_nothing_is_made(
    name: str, small_config: RunConfig, tmp_path: Path
) -> None:
    result = run(apply(small_config, name), tmp_path / "run")
    assert result.images_made == 0
    assert result.optimizer_steps == 8
    assert "test" in result.evaluations


def test_batch_normalisation_from_real_images_is_what_the_run_keeps_and_measures(
    small_config: RunConfig, tmp_path: Path
) -> None:
    plain = apply(small_config, "only-real")
    from_real = replace(plain, training=replace(plain.training, batchnorm_from_real=True))
    results = [run(config, tmp_path / name) for config, name in ((plain, "a"), (from_real, "b"))]
    one, other = (load_classifier(tmp_path / name).module.state_dict() for name in "ab")
    changed = {name.rpartition(".")[2] for name in one if not torch.equal(one[name], other[name])}
    assert changed == {"running_mean", "running_var", "num_batches_tracked"}
    losses = [result.evaluations["validation"].loss for result in results]
    assert losses[0] != losses[1]
