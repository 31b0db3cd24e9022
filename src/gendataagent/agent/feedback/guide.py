"""The classifier in training as the guide of the sampler."""

from __future__ import annotations

import copy
from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional

from gendataagent.training.classifier import Classifier


class ClassifierGuide:
    """A frozen copy of a classifier's module, which takes its weights with each call.

    Picklable. It sees images as the classifier does: at its size, with its normalisation, in eval
    mode. The classifier itself is neither changed nor kept.
    """

    def __init__(self, classifier: Classifier) -> None:
        module = copy.deepcopy(classifier.module).to("cpu").eval().requires_grad_(False)
        self._classifier = _with_module(classifier, module, torch.device("cpu"))

    def logits(self, images_BCHW: Tensor, weights: Mapping[str, Tensor]) -> Tensor:
        """Return logits [B, C] of images in [0, 1], differentiable; see `protocols.Guide`."""
        classifier = self._on(images_BCHW.device)
        cropped = _resized_and_cropped(images_BCHW, classifier.resize_px, classifier.size_px)
        dtype = next((w.dtype for w in weights.values() if w.is_floating_point()), cropped.dtype)
        inputs = classifier.normalise(cropped).to(dtype)
        return classifier.logits_of_normalised(inputs, weights=weights).float()

    def _on(self, device: torch.device) -> Classifier:
        if self._classifier.device != device:
            self._classifier = _with_module(self._classifier, self._classifier.module, device)
        return self._classifier


def _with_module(like: Classifier, module: torch.nn.Module, device: torch.device) -> Classifier:
    return Classifier(
        module,
        class_names=like.class_names,
        size_px=like.size_px,
        resize_px=like.resize_px,
        mean=like.mean,
        std=like.std,
        device=device,
    )


def _resized_and_cropped(images_BCHW: Tensor, resize_px: int, crop_px: int) -> Tensor:
    """Resize the square images as `data.pixels` does (bicubic, antialiased), crop the centre."""
    if images_BCHW.shape[-1] != resize_px:
        images_BCHW = functional.interpolate(
            images_BCHW, size=(resize_px, resize_px), mode="bicubic", antialias=True
        )
    start = (resize_px - crop_px) // 2
    return images_BCHW[..., start : start + crop_px, start : start + crop_px]
