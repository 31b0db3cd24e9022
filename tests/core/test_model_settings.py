"""A model's settings may name no code of the hub, which some libraries would fetch and run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from gendataagent.core import hub
from gendataagent.core.errors import ModelError, RunFolderError
from gendataagent.core.hub import ModelSource
from gendataagent.core.model_settings import fault_of_settings
from gendataagent.training.saving import read_classifier

KERNEL = "somebody/kernel"


@pytest.mark.parametrize(
    "settings",
    [
        {"attn_implementation": KERNEL},
        {"_attn_implementation": f"paged|{KERNEL}@main:fast"},
        {"vision_config": {"_attn_implementation_internal": KERNEL}},
        {"parts": [{"attn_implementation": {"text_config": KERNEL}}]},
        {"experts_implementation": KERNEL},
    ],
)
def test_code_of_the_hub_is_refused_unless_this_call_allows_it(
    settings: dict[str, Any], tmp_path: Path
) -> None:
    path = tmp_path / "config.json"
    path.write_text(json.dumps(settings), encoding="utf-8")
    assert "--trust-remote-code" in (fault_of_settings(path) or "")
    assert fault_of_settings(path, trust_remote_code=True) is None
    source = ModelSource(setting="a.setting", kind="a model", name=str(tmp_path))
    with pytest.raises(ModelError, match=r"a\.setting: .*config\.json asks for code of the hub"):
        hub.check_folder(source, tmp_path)
    with pytest.raises(RunFolderError, match=r"config\.json asks for code of the hub"):
        read_classifier(tmp_path)


@pytest.mark.parametrize("settings", [{}, [], {"attn_implementation": "sdpa", "num_labels": 3}, 7])
def test_other_settings_are_left_to_the_libraries(settings: Any, tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text(json.dumps(settings), encoding="utf-8")
    assert fault_of_settings(path) is None
    path.write_text("{", encoding="utf-8")
    assert fault_of_settings(path) is None


def test_names_for_more_labels_than_fit_the_memory_are_not_made(tmp_path: Path) -> None:
    settings = {"model_type": "vit", "num_labels": 10**12}
    (tmp_path / "config.json").write_text(json.dumps(settings), encoding="utf-8")
    with pytest.raises(RunFolderError, match=r"num_labels = 1,000,000,000,000, more than any"):
        read_classifier(tmp_path)
