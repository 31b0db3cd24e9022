"""`gendataagent adapt` from the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from gendataagent.cli import adapt as command
from gendataagent.cli import app
from gendataagent.core.errors import ConfigError, RunFolderError
from gendataagent.generation.adaptation import read_adaptation
from tests.generation.adaptation.conftest import make_images

assert command.__name__  # importing the module registers the command


@pytest.mark.integration
def test_adapt_then_resume(tiny_pipeline_folder: Path, tmp_path: Path) -> None:
    images = make_images(40)
    for index in range(len(images)):
        path = tmp_path / "photos" / f"class {images.labels[index]}" / f"{index}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        images.image(index).save(path)
    out = tmp_path / "lora"
    short = ["generation.num_inference_steps=2", "adaptation.measure_images=4", "device=cpu"]
    command = ["adapt", "--data", str(tmp_path / "photos"), "--out", str(out)]
    command += ["--generator", str(tiny_pipeline_folder), "--epochs", "1"]
    for text in short:
        command += ["--set", text]
    first = CliRunner().invoke(app, command, catch_exceptions=False)
    assert first.exit_code == 0
    weights = str(out / "pytorch_lora_weights.safetensors")
    rows = ("before", "after, LoRA at 0.5", "change", "real training images")
    for words in (*rows, f"--set generation.lora={out}", weights):
        assert words in first.stdout.replace("\n", "")
    adapted = read_adaptation(out)
    assert adapted.distances is not None
    assert f"{1000 * adapted.distances.before.mmd2:.2f}" in first.stdout
    again = CliRunner().invoke(app, ["adapt", "--resume", str(out)], catch_exceptions=False)
    assert again.stdout == first.stdout
    assert json.loads((out / "settings.json").read_text("utf-8"))["adaptation.epochs"] == 1


def test_conflicting_options_are_refused(tmp_path: Path) -> None:
    for options, kind, words in (
        ([], ConfigError, "--out must name"),
        (["--resume", "x", "--out", "y"], ConfigError, "--resume reads its settings"),
        (["--resume", str(tmp_path)], RunFolderError, "holds no adaptation to resume"),
        (
            ["--out", str(tmp_path / "x"), "--epochs", "2", "--strategy", "da-fusion-tokens"],
            ConfigError,
            "--set adaptation.token_steps=N",
        ),
    ):
        result = CliRunner().invoke(app, ["adapt", *options])
        assert isinstance(result.exception, kind)
        assert words in str(result.exception)
