"""A classifier as one module, colour normalisation included."""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Iterator
from typing import cast

import torch
from torch import Tensor, nn

from gendataagent.core.errors import GenDataAgentError, ModelError
from gendataagent.core.text import reason_of
from gendataagent.training.classifier import Classifier

EXAMPLES = 2  # images of the example: of 1, exporters take the size of the batch for fixed


class Deployable(nn.Module):
    """Images [B, 3, S, S] in [0, 1] -> logits [B, C]."""

    mean: Tensor
    std: Tensor

    def __init__(self, classifier: Classifier) -> None:
        super().__init__()
        self.module = classifier.module.eval().requires_grad_(False)
        for name, values in (("mean", classifier.mean), ("std", classifier.std)):
            self.register_buffer(name, torch.tensor(values)[:, None, None])

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits."""
        output = self.module((images - self.mean) / self.std)
        return cast(Tensor, output if isinstance(output, Tensor) else output.logits)


def example(classifier: Classifier) -> Tensor:
    """Return images to trace a module with, [EXAMPLES, 3, S, S] in [0, 1]."""
    size_px = classifier.size_px
    return torch.rand(
        EXAMPLES, 3, size_px, size_px, generator=torch.Generator().manual_seed(0)
    )  # fmt: skip


@contextlib.contextmanager
def exporting(kind: str) -> Iterator[None]:
    """Run an exporter of torch without its notices to developers.

    Raises:
        ModelError: it cannot export this network; says what else can.
    """
    log = logging.getLogger("torch.onnx")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            yield
    except (GenDataAgentError, OSError):
        raise
    except Exception as error:  # exporters raise types of their own, and any of torch's
        reason = reason_of(error)
        raise ModelError(
            f"torch cannot export this classifier to {kind}: {reason}. Try another format: "
            "--to safetensors stores any classifier"
        ) from error
    finally:
        log.setLevel(level)
