"""Every error is a sentence; one that is not expected keeps its traceback in a file."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest
import torch

from gendataagent import cli
from gendataagent.cli.failures import explain
from gendataagent.core.devices import memory_errors
from gendataagent.core.errors import DataError, MemoryShortError


def test_an_expected_error_is_its_own_sentence() -> None:
    assert explain(DataError("no images in x; give others")) == "no images in x; give others"


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        RuntimeError(
            "[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried 9 bytes"
        ),
        OSError(12, "Cannot allocate memory"),
    ],
)
def test_memory_that_ran_out_is_called_that(error: Exception) -> None:
    assert explain(error).startswith("memory ran out")
    pattern = r"while scoring .*; lower it"
    with pytest.raises(MemoryShortError, match=pattern), memory_errors("scoring", "lower it"):
        raise error


def test_other_errors_pass_through() -> None:
    with pytest.raises(RuntimeError, match="shapes"), memory_errors("scoring", "lower it"):
        raise RuntimeError("shapes do not fit")


def test_a_fault_keeps_its_traceback(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    try:
        raise KeyError("key")
    except KeyError as error:
        sentence = explain(error)
    assert sentence.startswith("KeyError: 'key'. This is a fault of gendataagent; please report it")
    found = re.search(r"details: (.*\.txt)", sentence)
    assert found is not None
    assert "Traceback" in Path(found[1]).read_text()


def test_a_kept_traceback_has_no_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setenv("MY_API_KEY", "sk-0123456789")
    explain(KeyError("a server repeats sk-0123456789"))
    (kept,) = tmp_path.iterdir()
    assert "a server repeats ***" in kept.read_text()


def test_a_current_folder_that_was_removed_is_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    monkeypatch.setattr(sys, "argv", ["gendataagent", "plan"])
    with pytest.raises(SystemExit) as ending:
        cli.main()
    assert ending.value.code == 1
    assert "the current folder does not exist any more" in capsys.readouterr().err


def test_the_command_line_prints_no_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr(sys, "argv", ["gendataagent", "presets"])

    def fail(*_: object, **__: object) -> None:
        raise RecursionError("maximum recursion depth exceeded")

    monkeypatch.setattr(cli, "app", fail)
    with pytest.raises(SystemExit) as ending:
        cli.main()
    assert ending.value.code == 1
    err = capsys.readouterr().err
    assert err.startswith("error: RecursionError: maximum recursion depth exceeded.")
    assert "Traceback" not in err
