"""Settings as keyword arguments."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from gendataagent.config import RunConfig
from gendataagent.config.keywords import with_keywords
from gendataagent.core.errors import ConfigError


def test_names_dotted_names_and_sections_lie_over_the_config() -> None:
    base = RunConfig(seed=3, data=replace(RunConfig().data, path="photos"))
    settings: dict[str, Any] = {
        "rounds": 4,
        "epochs": 40,  # of [training]; [adaptation] has one too
        "generator": "tiny-sd",
        "snapshot_at": (0.5, 1.0),
        "filter.drop_share": 0.5,
        "training": {"batch_size": 64},
    }
    config = with_keywords(base, settings)
    assert (config.seed, config.data.path) == (3, "photos")
    assert (config.agent.rounds, config.training.epochs) == (4, 40)
    assert config.adaptation.epochs == base.adaptation.epochs
    assert config.generation.generator == "tiny-sd"
    assert config.filter.snapshot_at == (0.5, 1.0)
    assert config.filter.drop_share == 0.5
    assert config.training.batch_size == 64
    assert with_keywords(base, {}) == base


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"share_": 1}, "unknown setting share_; did you mean share (selection.share)?"),
        ({"xyzzy": 1}, "unknown setting xyzzy; `gendataagent config` lists all settings"),
        ({"by": "vog"}, "by is a setting of several sections: selection.by and filter.by"),
        ({"filter.dropshare": 0.5}, "unknown setting filter.dropshare; did you mean drop_share?"),
        ({"rounds": "five"}, "agent.rounds must be an integer"),
        ({"training": 3}, "training must be a table, got 3"),
    ],
)
def test_a_wrong_name_or_value_is_refused(settings: Mapping[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        with_keywords(RunConfig(), settings)
    assert message in str(caught.value)


def test_all_problems_are_reported_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        with_keywords(RunConfig(), {"by": 1, "rouns": 2, "epochs": 0})
    assert len(caught.value.problems) >= 3
