"""How hard images are for a classifier: p(y), entropy, and recognition in a second view.

Without torch, since the report reads it; `measuring` measures.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np


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
