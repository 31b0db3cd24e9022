"""What the bits of a result may depend on."""

from __future__ import annotations

import pytest

from gendataagent.core.environment import environment, other_environment


def test_it_names_machine_device_and_versions() -> None:
    found = environment("cpu")
    assert found["device"] == "cpu"
    assert all(found[key] for key in ("cpu", "cpu instructions", "platform", "torch", "threads"))


def test_the_same_is_no_sentence_and_a_difference_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENBLAS_CORETYPE", raising=False)
    then = environment("cpu")
    assert other_environment(then, environment("cpu")) == ""
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # as training sets it
    assert other_environment(then, environment("cpu")) == ""
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "SSE41")
    sentence = other_environment(then, environment("cpu"))
    assert "kernel variables was none, is ONEDNN_MAX_CPU_ISA=SSE41" in sentence
    assert "may differ in some bits" in sentence
