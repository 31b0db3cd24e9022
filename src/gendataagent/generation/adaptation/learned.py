"""What an adaptation trains in a frozen pipeline: named parameters in single precision."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from gendataagent.core.errors import ModelError


class Frozen:
    """Parts of a pipeline with frozen weights, without dropout; `restore` undoes it.

    Args:
        parts: their names.
        gradient_checkpointing: whether the UNet computes its activations again.
    """

    def __init__(
        self, pipeline: Any, parts: Sequence[str], *, gradient_checkpointing: bool = False
    ) -> None:
        self._parts = [getattr(pipeline, part) for part in parts]
        self._required = [
            (parameter, parameter.requires_grad)
            for part in self._parts
            for parameter in part.parameters()
        ]
        self._training = [m for part in self._parts for m in part.modules() if m.training]
        self._unet = pipeline.unet
        self._had_checkpointing = bool(self._unet.is_gradient_checkpointing)
        for part in self._parts:
            part.requires_grad_(False)
            part.eval()  # a step must depend on its batch alone
        if gradient_checkpointing:
            self._unet.enable_gradient_checkpointing()

    def restore(self) -> None:
        """Restore gradients, training mode and checkpointing; calling it twice is harmless."""
        for parameter, required in self._required:
            parameter.requires_grad_(required)
        for module in self._training:
            module.training = True
        if not self._had_checkpointing and self._unet.is_gradient_checkpointing:
            self._unet.disable_gradient_checkpointing()


class Learned:
    """Parameters that are trained.

    Attributes:
        parameters: by name.
    """

    what: ClassVar[str]  # for messages, in the plural
    made_for: ClassVar[str]
    size: ClassVar[str]

    def __init__(self) -> None:
        self.parameters: dict[str, torch.nn.Parameter] = {}

    def tensors(self) -> dict[str, Tensor]:
        """Return a copy of all parameters, on the CPU."""
        return {n: p.detach().cpu().clone() for n, p in self.parameters.items()}

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Load the parameters and verify them.

        Raises:
            ModelError: they are others, or of another size.
        """
        if set(tensors) != set(self.parameters):
            odd = sorted(set(tensors) ^ set(self.parameters))
            raise ModelError(
                f"{self.what} are of another {self.made_for}: {len(odd)} tensors such as {odd[0]} "
                "are on one side only"
            )
        with torch.no_grad():
            for name, parameter in self.parameters.items():
                if parameter.shape != tensors[name].shape:
                    raise ModelError(
                        f"{self.what} are of another {self.size}: {name} is "
                        f"{list(tensors[name].shape)}, expected {list(parameter.shape)}"
                    )
                parameter.copy_(tensors[name])
        now = self.tensors()
        wrong = [name for name in now if not torch.equal(now[name], tensors[name].float())]
        if wrong:
            raise ModelError(f"{self.what} could not be restored: {wrong[0]} differs")

    def save(self, folder: Path) -> Path:
        """Write them to a file in `folder`, atomically; return it.

        Raises:
            ModelError: training did not change them.
        """
        raise NotImplementedError

    def remove(self) -> None:
        """Restore the pipeline; calling it twice is harmless."""
        raise NotImplementedError
