"""Checks before a run costs anything."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from gendataagent import RunConfig, run
from gendataagent.core.errors import ConfigError


def test_an_unknown_selector_or_filter_ends_a_run_from_python_before_it_starts(
    small_config: RunConfig, tmp_path: Path
) -> None:
    wrong = replace(
        small_config,
        selection=replace(small_config.selection, by="hardest"),
        filter=replace(small_config.filter, by="vogue"),
    )
    with pytest.raises(ConfigError) as caught:
        run(wrong, tmp_path / "run")
    assert "selection.by must be one of marginal, uniform" in str(caught.value)
    assert "filter.by must be one of vog" in str(caught.value)
    assert not (tmp_path / "run").exists()
