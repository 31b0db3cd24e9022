"""A wheel has everything in it, and what is installed from it runs without the source tree."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

pytestmark = pytest.mark.integration

ROOT = Path(__file__).parents[1]
PIP = (sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel built from the source tree, without the network."""
    pytest.importorskip("hatchling")
    folder = tmp_path_factory.mktemp("wheel")
    offline = ("--no-deps", "--no-index", "--no-build-isolation")
    _run([*PIP, "wheel", *offline, "--wheel-dir", str(folder), str(ROOT)], folder)
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that holds the installed wheel alone."""
    folder = tmp_path_factory.mktemp("installed")
    _run([*PIP, "install", "--no-deps", "--no-index", "--target", str(folder), str(wheel)], folder)
    return folder


def _run(command: list[str], folder: Path, packages: Path | None = None) -> str:
    """Return what a command prints, run in `folder` with `packages` before all others."""
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    if packages is not None:
        environment["PYTHONPATH"] = str(packages)
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return done.stdout


def test_a_wheel_holds_every_file_of_the_package_and_nothing_else(wheel: Path) -> None:
    source = ROOT / "src"
    wanted = {
        path.relative_to(source).as_posix()
        for path in (source / "gendataagent").rglob("*")
        if path.is_file() and path.suffix != ".pyc"
    }
    held = set(zipfile.ZipFile(wheel).namelist())
    assert {name for name in held if ".dist-info/" not in name} == wanted


CHECK = """
import sys
from importlib import metadata
from pathlib import Path

import gendataagent
from gendataagent.config.presets import list_presets, preset_settings
from gendataagent.data.bundled import cifar10_parquet
from gendataagent.generation.backends import build_backends
from gendataagent.config import RunConfig
import pyarrow.parquet as pq
from PIL import Image
from gendataagent.core.protocols import RenderRequest

installed = Path(sys.argv[1])
assert Path(gendataagent.__file__).parent == installed / "gendataagent", gendataagent.__file__
assert metadata.version("gendataagent") == gendataagent.__version__
assert {"demo", "quick"} <= {preset.name for preset in list_presets()}
assert pq.read_table(cifar10_parquet("train")).num_rows > 100

config = RunConfig.from_dict(preset_settings("demo"))
generator = build_backends(config).generator()
(made,) = generator.render([RenderRequest(
    source=Image.new("RGB", (32, 32), (90, 120, 60)), prompt="A photo of frog", negative_prompt="",
    seed=1, strength=0.75, guidance_scale=2.0, num_inference_steps=2)])
assert made.image.size == (32, 32)
print("all there")
"""


def test_an_installed_wheel_has_its_presets_data_and_models(
    installed: Path, tmp_path: Path
) -> None:
    printed = _run([sys.executable, "-c", CHECK, str(installed)], tmp_path, installed)
    assert printed.strip() == "all there"


def test_the_command_line_of_an_installed_wheel_runs(installed: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "gendataagent", "presets"]
    assert "demo" in _run(command, tmp_path, installed)
    assert (installed / "bin" / "gendataagent").exists() or os.name == "nt"
