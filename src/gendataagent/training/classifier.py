"""The classifier that is trained: a module, its classes and the images it expects.

Letters in tensor names: N images, B images of a batch, C classes, D features, S side in px.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Self

import torch
from torch import Tensor, nn

from gendataagent.core.devices import memory_errors
from gendataagent.core.errors import DataError, ModelError, ScoreError
from gendataagent.data.pixels import Pixels

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
_IDS_NAMED = 5
_LESS_MEMORY = "end other programs that use it, or choose a smaller classifier"
BATCH_SIZE = 64  # a third faster on a CPU than 256: activations stay in its cache


class Classifier:
    """A module with its class names, image size and colour normalisation.

    Args:
        module: images [B, 3, S, S] -> logits [B, C], or a transformers output with `.logits`.
        size_px: side of the centre crop that the module sees.
        resize_px: side to which images are resized before that crop; None = `size_px`.
        mean, std: per-channel normalisation of images in [0, 1]; not part of the module.
        bits: real depth of the images with 16 bits a sample that it was trained on, from which
            others are scaled too; 0 = there were none.
        note: what the user should know about it, "" for nothing.
    """

    def __init__(
        self,
        module: nn.Module,
        *,
        class_names: Sequence[str],
        size_px: int,
        resize_px: int | None = None,
        mean: Sequence[float] = IMAGENET_MEAN,
        std: Sequence[float] = IMAGENET_STD,
        device: torch.device | str = "cpu",
        bits: int = 0,
        note: str = "",
    ) -> None:
        self.device = torch.device(device)
        self.module = module.to(self.device)
        self.class_names = tuple(class_names)
        self.bits = bits
        self.note = note
        self.size_px = size_px
        self.resize_px = resize_px or size_px
        self.mean, self.std = tuple(mean), tuple(std)
        self._mean_131 = torch.tensor(self.mean, device=self.device)[:, None, None]
        self._std_131 = torch.tensor(self.std, device=self.device)[:, None, None]

    @classmethod
    def wrap(
        cls,
        module: nn.Module,
        *,
        class_names: Sequence[str],
        size_px: int,
        mean: Sequence[float] = IMAGENET_MEAN,
        std: Sequence[float] = IMAGENET_STD,
    ) -> Self:
        """Return a classifier around a module from a training loop of your own.

        The module stays on its device and is shared, not copied: training it trains this.
        """
        parameter = next(module.parameters(), None)
        device = parameter.device if parameter is not None else torch.device("cpu")
        return cls(
            module, class_names=class_names, size_px=size_px, mean=mean, std=std, device=device
        )

    def normalise(self, images_B3SS: Tensor) -> Tensor:
        """Return what the module sees of images in [0, 1]: (image - mean) / std."""
        return (images_B3SS - self._mean_131) / self._std_131

    def logits(self, images_B3SS: Tensor) -> Tensor:
        """Return the logits [B, C] of float images in [0, 1] on the classifier's device."""
        return self.logits_of_normalised(self.normalise(images_B3SS))

    def logits_of_normalised(
        self, inputs_B3SS: Tensor, *, weights: Mapping[str, Tensor] | None = None
    ) -> Tensor:
        """Return the logits [B, C] of normalised images.

        Args:
            weights: a complete state dict to use instead of the module's own, which stay unchanged.

        Raises:
            ModelError: the module's output is not [B, C] for this classifier's C classes.
        """
        if weights is None:
            output = self.module(inputs_B3SS)
        else:
            output = torch.func.functional_call(self.module, dict(weights), (inputs_B3SS,))
        logits_BC = output if isinstance(output, Tensor) else output.logits
        expected = (len(inputs_B3SS), len(self.class_names))
        if tuple(logits_BC.shape) != expected:
            raise ModelError(
                f"the classifier's module gave logits of shape {tuple(logits_BC.shape)}, expected "
                f"{expected}: one per image and class ({len(self.class_names)} class names)"
            )
        return logits_BC

    @contextlib.contextmanager
    def inference(self) -> Iterator[nn.Module]:
        """Put the module in eval mode with its parameters frozen; restore both as found."""
        modes = [(module, module.training) for module in self.module.modules()]
        frozen = [(parameter, parameter.requires_grad) for parameter in self.module.parameters()]
        try:
            self.module.eval().requires_grad_(False)
            yield self.module
        finally:
            for module, training in modes:
                module.training = training
            for parameter, requires_grad in frozen:
                parameter.requires_grad_(requires_grad)

    def predict_logits(
        self,
        pixels: Pixels,
        batch_size: int = BATCH_SIZE,
        *,
        on_batch: Callable[[int], None] | None = None,
    ) -> Tensor:
        """Return the logits [N, C] of all images (their centre crops), float32 on the CPU.

        Args:
            on_batch: called after each batch with its number of images.

        Raises:
            ScoreError: logits that are not finite, with the ids of the images.
        """
        self.check_labels(pixels)
        parts = [torch.empty((0, len(self.class_names)))]
        with self.inference(), torch.no_grad():
            for images_B3SS in self._batches(pixels, batch_size):
                with memory_errors(f"scoring {len(images_B3SS)} images at once", _LESS_MEMORY):
                    parts.append(self.logits(images_B3SS).float().cpu())
                if on_batch is not None:
                    on_batch(len(images_B3SS))
        logits_NC = torch.cat(parts)
        raise_if_not_finite(logits_NC.isfinite().all(dim=1), pixels.ids, "the classifier's output")
        return logits_NC

    def predict_probabilities(self, pixels: Pixels, batch_size: int = BATCH_SIZE) -> Tensor:
        """Return softmax probabilities [N, C], float32 on the CPU; raise like `predict_logits`."""
        return self.predict_logits(pixels, batch_size).softmax(dim=1)

    def features(self, pixels: Pixels, batch_size: int = BATCH_SIZE) -> Tensor:
        """Return the input of the last linear layer for each image, [N, D], float32 on the CPU.

        Raises:
            ModelError: the module has no linear layer.
            ScoreError: features that are not finite, with the ids of the images.
        """
        seen: list[Tensor] = []

        def keep(_: nn.Module, inputs: tuple[Any, ...]) -> None:
            seen.append(inputs[0].flatten(start_dim=1).float().cpu())

        hook = self.head().register_forward_pre_hook(keep)
        try:
            with self.inference(), torch.no_grad():
                for images_B3SS in self._batches(pixels, batch_size):
                    self.logits(images_B3SS)
        finally:
            hook.remove()
        features_ND = torch.cat(seen) if seen else torch.empty((0, self.head().in_features))
        raise_if_not_finite(features_ND.isfinite().all(dim=1), pixels.ids, "the features")
        return features_ND

    def head(self) -> nn.Linear:
        """Return the last linear layer; raise `ModelError` if there is none."""
        linears = [module for module in self.module.modules() if isinstance(module, nn.Linear)]
        if not linears:
            raise ModelError(
                f"{type(self.module).__name__} has no linear layer to take features in front of"
            )
        return linears[-1]

    def check_labels(self, pixels: Pixels) -> None:
        """Raise `DataError` if a label is not the index of a class."""
        wrong = (pixels.labels < 0) | (pixels.labels >= len(self.class_names))
        if wrong.any():
            first = int(wrong.nonzero()[0])
            raise DataError(
                f"image {pixels.ids[first]} has label {int(pixels.labels[first])}, but there are "
                f"{len(self.class_names)} classes (labels 0 to {len(self.class_names) - 1})"
            )

    def _batches(self, pixels: Pixels, batch_size: int) -> Iterator[Tensor]:
        indices = torch.split(torch.arange(len(pixels)), batch_size) if len(pixels) else ()
        for _, images_B3SS in pixels.stream(indices, crop_px=self.size_px):
            yield images_B3SS.to(self.device).float() / 255


def raise_if_not_finite(finite_N: Tensor, ids: Sequence[str], what: str) -> None:
    """Raise `ScoreError` naming the images where `finite_N` is False."""
    if finite_N.all():
        return
    bad = [ids[index] for index in (~finite_N).nonzero().flatten().tolist()]
    more = f" and {len(bad) - _IDS_NAMED} more" if len(bad) > _IDS_NAMED else ""
    raise ScoreError(
        f"{what} is not a finite number for {len(bad)} of {len(ids)} images "
        f"({', '.join(bad[:_IDS_NAMED])}{more}), so they cannot be ranked. Usually the training "
        "has diverged: lower training.learning_rate, or set training.gradient_clip=1"
    )
