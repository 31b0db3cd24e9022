"""The full-size script, at tiny scale: every stage is reached and measured."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from types import ModuleType

import pytest

FOLDER = Path(__file__).resolve().parents[1] / "scripts" / "full_size"


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(FOLDER))
    return importlib.import_module("run_full_size")


ARGUMENTS = ("--scale", "tiny", "--device", "cpu", "--steps", "2", "--images", "4", "--quiet",
             "--train-steps", "2", "--lora-epochs", "1")  # fmt: skip


def test_the_whole_path_is_gone_and_measured(
    script: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "report.json"
    code = script.main([*ARGUMENTS, "--scratch", str(tmp_path / "models"), "--out", str(out)])
    report = json.loads(out.read_text())
    assert json.loads(capsys.readouterr().out) == report
    assert report["failures"] == []
    assert code == 0
    assert set(report["models"]) == {"sd", "blip2", "llama", "resnet"}
    stages = report["stages"]
    assert set(stages) == {"select", "caption", "adapt", "rewrite", "render", "filter", "train"}
    for name in ("caption", "adapt", "rewrite", "render", "filter", "train"):
        assert stages[name]["per_second"] > 0, name
        assert stages[name]["peak_memory_gib"] > 0, name
    assert stages["render"]["items"] == 4
    assert stages["filter"]["notes"] == []  # VoG had its two checkpoints
    run_folder = tmp_path / "models" / "sd+blip2+llama+resnet"
    config = (run_folder / "config.toml").read_text()
    assert str(tmp_path / "models" / "tiny-llama") in config
    assert "batch_size = 4" in config  # no more than the images wanted


def test_what_breaks_is_reported_and_the_others_are_tried_alone(
    script: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = tmp_path / "tiny-blip2"
    broken.mkdir()
    (broken / "DONE").touch()  # a model that lacks everything
    code = script.main(
        [*ARGUMENTS, "--only", "blip2,resnet", "--images", "1", "--scratch", str(tmp_path)]
    )
    report = json.loads(capsys.readouterr().out)
    assert code == 1
    assert [failure["parts"] for failure in report["failures"]] == [["blip2", "resnet"], ["blip2"]]
    assert "has no config.json" in report["failures"][0]["error"]
    assert set(report["stages"]) == {"resnet"}
    assert report["stages"]["resnet"]["render"]["items"] == 1
