"""The doctor checks everything, gives a fix for each fault, and never fails itself."""

from __future__ import annotations

import importlib
import importlib.util
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace

import psutil
import pytest
import torch

from gendataagent.core import launch
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


def test_every_part_is_checked(tmp_path: Path) -> None:
    findings = examine(tmp_path)
    seen = {finding.what for finding in findings}
    assert {"Python", "torch", "diffusers", "Pillow", "device", "memory", "disk"} <= seen
    assert {"tiny-sd", "SD 1.5", "browser"} <= seen
    assert {finding.state for finding in findings} <= {"ok", "note", "wrong"}
    assert all(finding.found for finding in findings)
    assert all(finding.fix for finding in findings if finding.state == "wrong")


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
def test_a_package_that_does_not_import_is_reported_with_its_fix(
    error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib, "import_module", importing("diffusers", error))
    found = finding("diffusers", tmp_path)
    assert found.state == "wrong"
    assert found.fix.startswith("pip install -U 'diffusers>=")
    assert str(error).splitlines()[0] in found.found
    assert "\n" not in found.found


def test_a_broken_torchvision_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda n: n == "torchvision" or real(n))
    broken = importing("torchvision", RuntimeError("operator torchvision::nms does not exist"))
    monkeypatch.setattr(importlib, "import_module", broken)
    found = finding("torchvision", tmp_path)
    assert (found.state, found.fix) == ("wrong", "pip uninstall torchvision")


@pytest.mark.parametrize(
    ("nccl", "says"),
    [(True, "4 GPUs make images, 4 train"), (False, "4 GPUs make images, 1 train")],
)
def test_several_gpus_are_named_with_what_they_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, nccl: bool, says: str
) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    for name, answer in {
        "is_available": True,
        "mem_get_info": (60 << 30, 80 << 30),
        "get_device_name": "NVIDIA H100",
        "device_count": 4,
    }.items():
        monkeypatch.setattr(torch.cuda, name, lambda answer=answer: answer)
    monkeypatch.setattr(launch, "_has_backend", lambda name: nccl)
    assert finding("device", tmp_path).found.endswith(f"{says} (training.processes)")


def test_a_full_disk_and_a_read_only_one_are_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    not_there_yet = tmp_path / "a" / "b"
    assert finding("disk", not_there_yet).state == "ok" or shutil.disk_usage(tmp_path).free < 2**31
    monkeypatch.setattr(shutil, "disk_usage", lambda place: SimpleNamespace(free=2**30))
    found = finding("disk", not_there_yet)
    assert (found.state, found.fix) == ("note", "free some space, or choose another --out")
    assert f"1.0 GiB free at {tmp_path}" in found.found
    monkeypatch.setattr(os, "access", lambda place, mode: False)
    assert finding("disk", tmp_path).state == "wrong"


@pytest.mark.parametrize(
    ("gib", "expected"), [(3, ("ok", "3.0 GiB available")), (0.5, ("note", "0.5 GiB available"))]
)
def test_little_memory_is_noted(
    gib: float, expected: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    memory = SimpleNamespace(available=gib * 2**30, free=0)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: memory)
    found = doctor._memory()
    assert (found.state, found.found) == expected


@pytest.mark.parametrize(
    ("name", "use"),
    [
        ("timm", "timm:NAME"),
        ("gguf", "GGUF"),
        ("openai", "prompting.rewriter=endpoint"),
        ("matplotlib", "plots"),
    ],
)
def test_a_missing_optional_package_is_only_noted(
    name: str, use: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda n: None if n == name else real(n))
    found = finding(name, tmp_path)
    assert found.state == "note"
    assert found.fix.startswith(f"pip install '{name}>=")
    assert use in found.found


def test_a_model_counts_as_downloaded_once_its_weights_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    none = finding("models", tmp_path).found
    assert none.startswith("0 of the ")
    models = none.split()[3]
    assert int(models) >= 6
    cached = tmp_path / "models--microsoft--resnet-50"
    (cached / "refs").mkdir(parents=True)
    (cached / "refs" / "main").write_text("abc")
    snapshot = cached / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    (snapshot / "config.json").write_text("{}")
    assert finding("models", tmp_path).found == none  # a config alone is what a check leaves
    (snapshot / "model.safetensors").write_bytes(b"")
    found = finding("models", tmp_path)
    assert f"1 of the {models}" in found.found
    assert "microsoft/resnet-50" not in found.found
    assert "meta-llama/Llama-2-7b-chat-hf" in found.found


def test_a_missing_bundled_generator_is_wrong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model, "FOLDER", tmp_path)
    assert finding("tiny-sd", tmp_path).state == "wrong"


def test_stable_diffusion_that_is_not_downloaded_is_noted_with_its_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor, "stable_diffusion_is_here", lambda: False)
    found = finding("SD 1.5", tmp_path)
    assert (found.state, found.found) == ("note", "not downloaded")
    assert "5.5 GB, or 2.7 GB with --set generation.variant=fp16" in found.fix


def test_the_classes_of_images_are_compared_with_the_bundled_generators(
    photo_folder: Path, tmp_path: Path
) -> None:
    def classes_of(data: str) -> Finding:
        (found,) = [f for f in examine(tmp_path, data) if f.what == "your images"]
        return found

    found = classes_of(str(photo_folder))
    assert found.state == "note"
    assert found.found.startswith("2 of your 3 classes are among the 10 that tiny-sd can draw")
    assert "--generator stable-diffusion-v1-5/" in found.fix
    assert classes_of("bundled:cifar10").state == "ok"
    assert classes_of(str(tmp_path / "nowhere")).state == "wrong"
