"""Build sdist and wheel, look into both, and use the wheel in empty environments.

python scripts/release/check_package.py --python python3.11 --constraints constraints.txt

Needs `build` and `twine` (`make check-package` installs them). For each Python a new environment
gets the wheel and its dependencies, and nothing else; then the first commands of the README run
there, outside the source tree. The environment's size is printed, then it is removed. Without
constraints, torch on Linux brings its CUDA libraries: 6 GB each.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
import zipfile
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = "gendataagent"
PYTHONS = ("python3.11", "python3.12", "python3.13")
MAX_WHEEL_BYTES = 40_000_000
NEEDED = (
    "py.typed",
    "config/assets/presets/demo.toml",
    "data/assets/cifar10/train.parquet",
    "data/assets/cifar10/README.md",
    "generation/tiny/tiny-sd/README.md",
    "generation/tiny/tiny-sd/unet/diffusion_pytorch_model.safetensors",
)
NEEDED_IN_SDIST = (
    "LICENSE", "README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md", "Makefile",
    "pyproject.toml", "constraints.txt", "zensical.toml", "docs/index.md", "tests/conftest.py",
)  # fmt: skip
NOT_SHIPPED = re.compile(
    r"^(runs|site|dist|\.git|\.ci)/|(^|/)(__pycache__|\.venv[^/]*)/|\.pyc$|\.pt$"
)
FEW = ("--epochs", "6", "--rounds", "1", "--set", "selection.share=0.01")


def commands(run: str) -> list[list[str]]:
    """Return the first commands of the README, small, each as arguments of `gendataagent`."""
    return [
        ["--version"],
        ["doctor"],
        ["presets"],
        ["plan", "--preset", "demo"],
        ["run", "--preset", "demo", *FEW, "--out", run],
        ["report", run],
        ["export", run, "--to", "safetensors", "--out", f"{run}-classifier"],
        ["export-data", run, "--to", "imagefolder", "--only", "kept", "--out", f"{run}-kept"],
        ["predict", run, f"{run}-kept"],
    ]


def wheel_problems(names: Iterable[str], size: int) -> list[str]:
    """Return what is wrong with the files of a wheel of `size` bytes."""
    files = set(names)
    needed = [f"{PACKAGE}/{name}" for name in NEEDED]
    problems = [f"the wheel lacks {name}" for name in needed if name not in files]
    if not any(name.endswith(".dist-info/licenses/LICENSE") for name in files):
        problems.append("the wheel lacks its licence")
    for name in sorted(files):
        if name.split("/")[0] != PACKAGE and ".dist-info/" not in name:
            problems.append(f"the wheel holds {name}, which is not of the package")
        elif NOT_SHIPPED.search(name):
            problems.append(f"the wheel holds {name}, which was left behind")
    if size > MAX_WHEEL_BYTES:
        problems.append(f"the wheel has {size:,} bytes, more than {MAX_WHEEL_BYTES:,}")
    return problems


def sdist_problems(names: Iterable[str]) -> list[str]:
    """Return what is wrong with the files of an sdist."""
    files = {str(PurePosixPath(*PurePosixPath(name).parts[1:])) for name in names}
    needed = (*NEEDED_IN_SDIST, *(f"src/{PACKAGE}/{name}" for name in NEEDED))
    return [
        *(f"the sdist lacks {name}" for name in needed if name not in files),
        *(f"the sdist holds {name}" for name in sorted(files) if NOT_SHIPPED.search(name)),
    ]


def build(out: Path) -> Path:
    """Build both into `out`, check them, and return the wheel."""
    run([sys.executable, "-m", "build", "--outdir", str(out), str(ROOT)], ROOT)
    (wheel,), (sdist,) = out.glob("*.whl"), out.glob("*.tar.gz")
    run([sys.executable, "-m", "twine", "check", "--strict", str(wheel), str(sdist)], ROOT)
    with zipfile.ZipFile(wheel) as archive:
        problems = wheel_problems(archive.namelist(), wheel.stat().st_size)
    with tarfile.open(sdist) as files:
        problems += sdist_problems(files.getnames())
    if problems:
        sys.exit("\n".join(problems))
    for path in (sdist, wheel):
        print(f"{path.name}: {path.stat().st_size / 1e6:.1f} MB")
    return wheel


def use(wheel: Path, python: str, constraints: Sequence[str]) -> None:
    """Install a wheel into an empty environment of a Python and run the README's commands."""
    with tempfile.TemporaryDirectory(prefix="check-package-") as folder:
        began = time.monotonic()
        environment = Path(folder, "environment")
        run([python, "-m", "venv", str(environment)], Path(folder))
        places = environment / ("Scripts" if os.name == "nt" else "bin")
        limits = [part for name in constraints for part in ("-c", str(Path(name).resolve()))]
        quiet = ["--quiet", "--disable-pip-version-check", "--no-compile"]
        install = [str(places / "python"), "-m", "pip", "install", *quiet, *limits, str(wheel)]
        run(install, Path(folder))
        installed = time.monotonic() - began
        size = sum(p.lstat().st_size for p in environment.rglob("*") if not p.is_symlink())
        print(f"{python}: {size / 1e9:.1f} GB installed in {installed:.0f} s", flush=True)
        for arguments in commands("run"):
            began = time.monotonic()
            run([str(places / PACKAGE), *arguments], Path(folder))
            print(
                f"  {PACKAGE} {' '.join(arguments)}: {time.monotonic() - began:.0f} s", flush=True
            )


def works(python: str) -> bool:
    """Return whether a Python is here and starts; a name alone may be that of a version manager."""
    found = shutil.which(python)
    return (
        found is not None and not subprocess.run([found, "-c", ""], capture_output=True).returncode
    )


def run(command: Sequence[str], folder: Path) -> None:
    """Run a command that does not see this source tree; end with its output if it fails."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        sys.exit(f"{' '.join(command)} failed:\n{(done.stdout + done.stderr)[-4000:]}")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--python", action="append", help="default: every one found here")
    parser.add_argument("--constraints", action="append", default=[], help="a file for pip's -c")
    parser.add_argument("--out", type=Path, default=ROOT / "dist", help="for sdist and wheel")
    options = parser.parse_args()
    pythons = options.python or [name for name in PYTHONS if works(name)]
    if missing := [name for name in pythons if not works(name)]:
        sys.exit(f"{', '.join(missing)} is not here, or does not start")
    if not pythons:
        sys.exit(f"none of {', '.join(PYTHONS)} starts here; name one with --python")
    shutil.rmtree(options.out, ignore_errors=True)
    wheel = build(options.out)
    for python in pythons:
        use(wheel, python, options.constraints)
    print(f"checked with {', '.join(pythons)}")


if __name__ == "__main__":
    main()
