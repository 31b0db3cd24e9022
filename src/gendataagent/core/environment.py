"""What the bits of a result may depend on besides its settings: machine, device, versions."""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path

from gendataagent.core.devices import CUBLAS_WORKSPACE
from gendataagent.core.plugins import installed_plugins

# Those that compute, or decode and scale images.
_PACKAGES = (
    "torch", "torchvision", "numpy", "pillow", "diffusers", "transformers", "tokenizers", "peft",
    "accelerate", "datasets", "timm",
)  # fmt: skip
# Each makes the libraries below torch choose other kernels.
_KERNEL_VARIABLES = (
    "ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA", "MKL_ENABLE_INSTRUCTIONS", "MKL_CBWR",
    "OPENBLAS_CORETYPE", "NPY_DISABLE_CPU_FEATURES", "CUBLAS_WORKSPACE_CONFIG",
    "NVIDIA_TF32_OVERRIDE",
)  # fmt: skip


def environment(device: str) -> dict[str, str]:
    """Return machine, device and versions, each as text; a package that is missing is "none"."""
    import torch

    name = torch.cuda.get_device_name(device) if device.startswith("cuda") else device
    own = {"CUBLAS_WORKSPACE_CONFIG": CUBLAS_WORKSPACE}  # which this process may have set itself
    set_to = {key: os.environ.get(key, "") for key in _KERNEL_VARIABLES}
    chosen = [f"{key}={text}" for key, text in set_to.items() if text not in ("", own.get(key))]
    return {
        "python": platform.python_version(),
        "platform": _platform(),
        "device": name,
        "cpu": _cpu_model(),
        "cpu instructions": torch.backends.cpu.get_cpu_capability(),
        "kernel variables": ", ".join(chosen) or "none",
        "threads": str(torch.get_num_threads()),
        "gendataagent": _version("gendataagent"),
        **{package: _version(package) for package in _PACKAGES},
        "plugins": ", ".join(f"{part} ({of})" for part, of in installed_plugins().items())
        or "none",
    }


def other_environment(then: Mapping[str, str], now: Mapping[str, str]) -> str:
    """Return a sentence about what is different now, "" where nothing is."""
    changed = [
        f"{key} was {then[key]}, is {now[key]}"
        for key in now
        if key in then and then[key] != now[key]
    ]
    if not changed:
        return ""
    return (
        f"This was begun on another machine or with other versions: {'; '.join(changed)}. It goes "
        "on with the same choices and seeds, but images and weights may differ in some bits from "
        "those of an uninterrupted run."
    )


def _platform() -> str:
    """Return system, architecture and C library; not the kernel's release, which changes no bit."""
    parts = (platform.system(), platform.machine(), " ".join(platform.libc_ver()))
    return " ".join(part for part in parts if part.strip())


def _cpu_model() -> str:
    """Return the model of the CPU as its maker names it, as far as the system says it."""
    try:
        if platform.system() == "Darwin":
            command = ["sysctl", "-n", "machdep.cpu.brand_string"]
            return subprocess.run(
                command, capture_output=True, text=True, timeout=10, check=True
            ).stdout.strip()
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            name, _, value = line.partition(":")
            if name.strip() == "model name":
                return value.strip()
    except (OSError, subprocess.SubprocessError, ValueError):
        pass
    return platform.processor() or platform.machine()


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "none"
