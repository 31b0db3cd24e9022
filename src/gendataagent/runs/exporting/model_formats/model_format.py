"""What a format of exported models is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

    from gendataagent.training.classifier import Classifier

Logits = Callable[["Tensor"], "Tensor"]
"""Images [B, 3, S, S] in [0, 1] -> logits [B, C], both float32 on the CPU."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFormat:
    """One way to store a classifier.

    Args:
        file: the file with the weights.
        normalises: whether the stored model normalises colours itself.
        check_installed: raises `ModelError` with the pip command if a library is missing.
        write: stores a classifier in a folder.
        read: opens what was stored, as other software would.
    """

    file: str
    normalises: bool
    check_installed: Callable[[], None]
    write: Callable[[Classifier, Path], None]
    read: Callable[[Path], Logits]
