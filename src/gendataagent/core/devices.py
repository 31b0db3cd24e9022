"""Mixed precision by Hugging Face Accelerate, chosen anew for each model that is trained."""

from __future__ import annotations

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState


def accelerator_of(device: torch.device, precision: str) -> Accelerator:
    """Return an Accelerator of a precision, whatever earlier ones in the process were.

    Args:
        precision: "no", "fp16" or "bf16".
    """
    settings = {"cpu": device.type == "cpu", "mixed_precision": precision}
    try:
        return Accelerator(**settings)
    except ValueError:
        # Accelerate keeps its settings once per process and refuses different ones.
        AcceleratorState._reset_state(reset_partial_state=True)
        return Accelerator(**settings)
