"""How hard images are for a classifier: p(y), entropy, and recognition in a second view."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Self

import numpy as np
import torch
from torch.nn import functional

from gendataagent.core import memory
from gendataagent.data.pixels import Pixels
from gendataagent.training.classifier import Classifier

_CROP = 0.875  # the second view: the inner 7/8, enlarged; no view of the gradient is like it


@dataclass(frozen=True, slots=True, kw_only=True)
class Hardness:
    """N images as a classifier sees them.

    Args:
        p_true: probability of the image's class, [N].
        entropy: of the softmax in nats, [N].
        recognised: whether the image's class is the likeliest in the second view, [N].
        labels: class of each image, [N].
    """

    p_true: tuple[float, ...]
    entropy: tuple[float, ...]
    recognised: tuple[bool, ...]
    labels: tuple[int, ...]

    @classmethod
    def measure(cls, classifier: Classifier, pixels: Pixels) -> Self:
        """Return the hardness of images; the classifier is left as found."""
        batch_size = memory.scoring_batch(classifier.size_px)
        plain_NC = classifier.predict_probabilities(pixels, batch_size)
        second_NC = classifier.predict_probabilities(_second_view(pixels), batch_size)
        entropy_N = -(plain_NC * plain_NC.clamp_min(1e-12).log()).sum(dim=1)
        true_N = plain_NC.gather(1, pixels.labels[:, None])[:, 0]
        return cls(
            p_true=tuple(round(float(p), 6) for p in true_N),
            entropy=tuple(round(float(value), 6) for value in entropy_N),
            recognised=tuple(bool(x) for x in second_NC.argmax(dim=1) == pixels.labels),
            labels=tuple(int(label) for label in pixels.labels),
        )

    def mean_p(self, like: Sequence[int]) -> float:
        """Return the mean p(y) if classes were as frequent as in `like`."""
        return self._mean(self.p_true, like)

    def recognition(self, like: Sequence[int]) -> float:
        """Return the share recognised in the second view, classes as frequent as in `like`."""
        return self._mean([float(one) for one in self.recognised], like)

    def _mean(self, values: Sequence[float], like: Sequence[int]) -> float:
        """Return the mean over `like` of each class's mean; of all images where it has none."""
        values_N, labels_N = np.asarray(values), np.asarray(self.labels)
        of_class: Mapping[int, float] = {
            label: float(values_N[labels_N == label].mean()) for label in set(self.labels)
        }
        overall = float(values_N.mean())
        return float(np.mean([of_class.get(label, overall) for label in like]))

    def to_json(self) -> dict[str, Any]:
        """Return the fields as plain JSON values; `core.rows.fit` reads them."""
        return asdict(self)


def _second_view(pixels: Pixels) -> Pixels:
    size_px = pixels.size_px
    inner_px = max(1, round(_CROP * size_px))

    def read(indices_B: torch.Tensor) -> torch.Tensor:
        inner = pixels.batch(indices_B, crop_px=inner_px).float()
        enlarged = functional.interpolate(inner, size=(size_px, size_px), mode="bilinear")
        return enlarged.round().to(torch.uint8)

    return Pixels(read, pixels.labels, ids=pixels.ids, size_px=size_px)
