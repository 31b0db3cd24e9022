"""Measures how hard images are for a classifier."""

from __future__ import annotations

import torch
from torch.nn import functional

from gendataagent.agent.feedback.hardness import Hardness
from gendataagent.core import memory
from gendataagent.data.pixels import Pixels
from gendataagent.training.classifier import Classifier

_CROP = 0.875  # the second view: the inner 7/8, enlarged; no view of the gradient is like it


def measure_hardness(classifier: Classifier, pixels: Pixels) -> Hardness:
    """Return the hardness of images; the classifier is left as found."""
    batch_size = memory.scoring_batch(classifier.size_px)
    plain_NC = classifier.predict_probabilities(pixels, batch_size)
    second_NC = classifier.predict_probabilities(_second_view(pixels), batch_size)
    entropy_N = -(plain_NC * plain_NC.clamp_min(1e-12).log()).sum(dim=1)
    true_N = plain_NC.gather(1, pixels.labels[:, None])[:, 0]
    return Hardness(
        p_true=tuple(round(float(p), 6) for p in true_N),
        entropy=tuple(round(float(value), 6) for value in entropy_N),
        recognised=tuple(bool(x) for x in second_NC.argmax(dim=1) == pixels.labels),
        labels=tuple(int(label) for label in pixels.labels),
    )


def _second_view(pixels: Pixels) -> Pixels:
    size_px = pixels.size_px
    inner_px = max(1, round(_CROP * size_px))

    def read(indices_B: torch.Tensor) -> torch.Tensor:
        inner = pixels.batch(indices_B, crop_px=inner_px).float()
        enlarged = functional.interpolate(inner, size=(size_px, size_px), mode="bilinear")
        return enlarged.round().to(torch.uint8)

    return Pixels(read, pixels.labels, ids=pixels.ids, size_px=size_px)
