"""Devices by name, and mixed precision by Hugging Face Accelerate."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gendataagent.core.errors import ConfigError

if TYPE_CHECKING:
    import torch
    from accelerate import Accelerator

AUTO = "auto"  # a setting that is decided when the run is made


def resolve_device(name: str) -> str:
    """Return the torch device a setting stands for; auto = cuda, else mps, else cpu.

    Raises:
        ConfigError: torch knows no such device, or it is not there.
    """
    import torch

    if name == AUTO:
        if torch.cuda.is_available():
            return "cuda"
        return "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        torch.empty(0, device=name)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).strip().splitlines()[0]
        raise ConfigError(f"device {name!r} cannot be used here: {reason}; try auto") from error
    return name


def accelerator_of(device: torch.device, precision: str) -> Accelerator:
    """Return an Accelerator of a precision, whatever earlier ones in the process were.

    Args:
        precision: "no", "fp16" or "bf16".
    """
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState

    settings = {"cpu": device.type == "cpu", "mixed_precision": precision}
    try:
        return Accelerator(**settings)
    except ValueError:
        # Accelerate keeps its settings once per process and refuses different ones.
        AcceleratorState._reset_state(reset_partial_state=True)
        return Accelerator(**settings)
