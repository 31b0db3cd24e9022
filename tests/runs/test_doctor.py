"""The doctor looks at everything, says how to mend it, and never falls ill itself."""

from __future__ import annotations

import importlib
import importlib.util
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

from gendataagent.generation.tiny import model
from gendataagent.runs import doctor
from gendataagent.runs.doctor import Finding, examine


def finding(what: str, folder: Path) -> Finding:
    (found,) = [finding for finding in examine(folder) if finding.what == what]
    return found


def importing(name: str, error: Exception) -> Callable[[str], ModuleType]:
    """Return an `import_module` for which one module is broken."""
    real = importlib.import_module

    def import_module(wanted: str) -> ModuleType:
        if wanted == name:
            raise error
        return real(wanted)

    return import_module


def test_everything_is_looked_at(tmp_path: Path) -> None:
    findings = examine(tmp_path)
    seen = {finding.what for finding in findings}
    assert {"Python", "torch", "diffusers", "Pillow", "device", "memory", "disk"} <= seen
    assert {"tiny-sd", "SD 1.5", "browser"} <= seen
    assert {finding.state for finding in findings} <= {"ok", "note", "wrong"}
    assert all(finding.found for finding in findings)
    assert all(finding.mend for finding in findings if finding.state == "wrong")


@pytest.mark.parametrize(
    "error",
    [
        ImportError("No module named 'diffusers'"),
        RuntimeError("operator torchvision::nms does not exist\nand more"),
        OSError("libcudart.so.12: cannot open shared object file"),
        AttributeError("partially initialized module"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_a_package_that_does_not_import_is_named_with_the_command(
    error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib, "import_module", importing("diffusers", error))
    found = finding("diffusers", tmp_path)
    assert (found.state, found.mend) == ("wrong", "pip install -U diffusers")
    assert str(error).splitlines()[0] in found.found
    assert "\n" not in found.found


def test_a_broken_torchvision_is_named_because_it_breaks_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda n: n == "torchvision" or real(n))
    broken = importing("torchvision", RuntimeError("operator torchvision::nms does not exist"))
    monkeypatch.setattr(importlib, "import_module", broken)
    found = finding("torchvision", tmp_path)
    assert (found.state, found.mend) == ("wrong", "pip uninstall torchvision")


def test_a_full_disk_and_one_that_cannot_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    not_there_yet = tmp_path / "a" / "b"
    assert finding("disk", not_there_yet).state == "ok" or shutil.disk_usage(tmp_path).free < 2**31
    monkeypatch.setattr(shutil, "disk_usage", lambda place: SimpleNamespace(free=2**30))
    found = finding("disk", not_there_yet)
    assert (found.state, found.mend) == ("note", "free some space")
    assert f"1.0 GiB free at {tmp_path}" in found.found
    monkeypatch.setattr(os, "access", lambda place, mode: False)
    assert finding("disk", tmp_path).state == "wrong"


def test_free_memory_counts_what_the_system_would_give(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = {"MemFree:         100 kB\nMemAvailable:   3145728 kB\n": ("ok", "3.0 GiB free"),
             "MemAvailable:    524288 kB\n": ("note", "0.5 GiB free"),
             "": ("note", "cannot be read on this system")}  # fmt: skip
    for text, expected in texts.items():
        with monkeypatch.context() as patch:
            patch.setattr(Path, "read_text", lambda *_, text=text, **__: text)
            found = doctor._memory()
        assert (found.state, found.found) == expected


def test_packages_for_some_settings_only_are_no_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda n: None if n == "timm" else real(n))
    found = finding("timm", tmp_path)
    assert (found.state, found.mend) == ("note", "pip install timm")
    assert "timm:NAME" in found.found


def test_models_of_presets_count_once_their_weights_are_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    assert "0 of 6 that the presets name are here" in finding("models", tmp_path).found
    cached = tmp_path / "models--microsoft--resnet-50"
    (cached / "refs").mkdir(parents=True)
    (cached / "refs" / "main").write_text("abc")
    snapshot = cached / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    (snapshot / "config.json").write_text("{}")
    assert "0 of 6" in finding("models", tmp_path).found  # a config alone is what a check leaves
    (snapshot / "model.safetensors").write_bytes(b"")
    found = finding("models", tmp_path)
    assert "1 of 6" in found.found
    assert "microsoft/resnet-50" not in found.found
    assert "meta-llama/Llama-2-7b-chat-hf" in found.found


def test_a_missing_bundled_generator_is_wrong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model, "FOLDER", tmp_path)
    assert finding("tiny-sd", tmp_path).state == "wrong"
