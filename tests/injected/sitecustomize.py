"""Imported by Python at its start where PYTHONPATH names this folder: see fault_injection.py."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

if "GENDATAAGENT_TEST_FAULT" in os.environ:
    place = Path(__file__).resolve().parents[1] / "fault_injection.py"
    spec = importlib.util.spec_from_file_location("fault_injection", place)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.install_from(os.environ)
