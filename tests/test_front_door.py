"""`import gendataagent`: eleven names, quick, without torch."""

from __future__ import annotations

import subprocess
import sys

import pytest

import gendataagent

NAMES = {
    "Agent", "Backends", "Classifier", "RealAndSynthetic", "RunConfig", "load_classifier",
    "load_data", "read_result", "resume", "review", "run", "write_report",
}  # fmt: skip
MAX_SECONDS = 1.0  # on a busy machine; about 0.02 s on an idle one


def _python(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout


def test_eleven_names_are_exported() -> None:
    assert set(gendataagent.__all__) == NAMES
    assert set(dir(gendataagent)) >= NAMES
    for name in NAMES:
        assert getattr(gendataagent, name).__name__ == name
    with pytest.raises(AttributeError, match="has no attribute 'agnet'"):
        gendataagent.__getattr__("agnet")


def test_the_import_loads_no_other_module_of_the_package() -> None:
    loaded = _python("import sys, gendataagent; print(*sys.modules)").split()
    assert [name for name in loaded if name.startswith("gendataagent")] == ["gendataagent"]
    assert not {"torch", "numpy", "PIL", "datasets"} & set(loaded)


def test_the_import_is_quick() -> None:
    code = (
        "import time; start = time.process_time(); import gendataagent; "
        "print(time.process_time() - start)"
    )
    assert min(float(_python(code)) for _ in range(3)) < MAX_SECONDS


@pytest.mark.parametrize("name", ["RunConfig", "write_report", "read_result", "Backends"])
def test_names_that_need_no_torch_load_none(name: str) -> None:
    loaded = _python(f"import sys; from gendataagent import {name}; print(*sys.modules)").split()
    assert "torch" not in loaded
