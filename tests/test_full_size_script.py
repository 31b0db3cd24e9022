"""The full-size script, at tiny scale: every stage is reached and measured."""

from __future__ import annotations

import importlib
import json
import tomllib
from pathlib import Path
from types import ModuleType

import pytest

pytestmark = pytest.mark.integration

FOLDER = Path(__file__).resolve().parents[1] / "scripts" / "full_size"


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(FOLDER))
    return importlib.import_module("run_full_size")


@pytest.fixture
def count(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(FOLDER))
    return importlib.import_module("count")


@pytest.mark.parametrize(
    "model",
    [
        "tiny-sd",
        "tiny-resnet",
        "microsoft/resnet-50",
        "meta-llama/Llama-2-7b-chat-hf",
        "madebyollin/taesd",
    ],
)
def test_the_facts_of_the_package_are_as_counted(
    count: ModuleType, model: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert count.main([model]) == 0, capsys.readouterr().out


def test_written_facts_read_back(
    count: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = count.FILE.read_text(encoding="utf-8")
    file = tmp_path / "facts.toml"
    file.write_text(before.replace("parameters = 389722", "parameters = 1"), encoding="utf-8")
    monkeypatch.setattr(count, "FILE", file)
    assert count.main(["tiny-resnet"]) == 1
    assert count.main(["tiny-resnet", "--write"]) == 0
    assert tomllib.loads(file.read_text(encoding="utf-8")) == tomllib.loads(before)


def test_merged_tokens_are_measured(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.syspath_prepend(str(FOLDER))
    script = importlib.import_module("merge_tokens")
    sizes = ["--size-px", "128", "--repetitions", "1", "--shares", "0", "0.5"]
    assert script.main(["--scale", "tiny", *sizes]) == 0
    assert "share 0.50: " in capsys.readouterr().out


ARGUMENTS = ("--scale", "tiny", "--device", "cpu", "--steps", "2", "--images", "4", "--quiet",
             "--train-steps", "2", "--lora-epochs", "1")  # fmt: skip


def test_all_stages_are_run_and_measured(
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
    # The language model's weights are random, so its rewrites are refused; VoG had its two
    # snapshots.
    assert all("of the rewrites of this round" in note for note in stages["filter"]["notes"])
    run_folder = tmp_path / "models" / "sd+blip2+llama+resnet"
    config = (run_folder / "config.toml").read_text()
    assert str(tmp_path / "models" / "tiny-llama") in config
    assert "batch_size = 4" in config  # no more than the images wanted


def test_a_failure_is_reported_and_each_part_is_tried_alone(
    script: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = tmp_path / "tiny-blip2"
    broken.mkdir()
    (broken / "DONE").touch()  # a folder without a model
    code = script.main(
        [*ARGUMENTS, "--only", "blip2,resnet", "--images", "1", "--scratch", str(tmp_path)]
    )
    report = json.loads(capsys.readouterr().out)
    assert code == 1
    assert [failure["parts"] for failure in report["failures"]] == [["blip2", "resnet"], ["blip2"]]
    assert "has no config.json" in report["failures"][0]["error"]
    assert set(report["stages"]) == {"resnet"}
    assert report["stages"]["resnet"]["render"]["items"] == 1
