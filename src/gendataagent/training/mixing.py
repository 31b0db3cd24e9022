"""CutMix and MixUp: a batch mixed with a permutation of itself.

MixUp: Zhang et al., ICLR 2018. CutMix: Yun et al., ICCV 2019. One proportion per step, drawn from
Beta(alpha, alpha), as in both authors' code [C].

Letters in tensor names: B images of a batch, S side in px.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from gendataagent.config import TrainingConfig


@dataclass(frozen=True, slots=True)
class Mixed:
    """A batch after mixing.

    Args:
        partner_B: index of the image each was mixed with.
        own_share: share of each image that is its own; its loss is divided in the same way.
    """

    images_B3SS: Tensor
    partner_B: Tensor
    own_share: float

    def divide(self, per_image: Tensor) -> Tensor:
        """Return per-image values [B, ...], such as soft labels, mixed like the images."""
        partners = per_image[self.partner_B.to(per_image.device)]
        return self.own_share * per_image + (1 - self.own_share) * partners


class Mixer:
    """Mixes the batches of one epoch; the result depends on the seed alone.

    Args:
        config: `mix`, `mix_alpha` and `mix_probability`.
    """

    def __init__(self, config: TrainingConfig, seed: int) -> None:
        self._config = config
        self._random = random.Random(seed)

    @classmethod
    def from_config(cls, config: TrainingConfig, seed: int) -> Self | None:
        """Return the mixer of these settings, None for training.mix = "none"."""
        return None if config.mix == "none" else cls(config, seed)

    def __call__(self, images_B3SS: Tensor) -> Mixed:
        """Return float images [B, 3, S, S] mixed, or unchanged in a step that does not mix."""
        # All draws are always made, so that those of a step do not depend on earlier outcomes.
        draw, own_share = self._random.random(), self._beta()
        order = list(range(len(images_B3SS)))
        self._random.shuffle(order)
        place = self._random.random(), self._random.random()
        partner_B = torch.tensor(order)
        if draw >= self._config.mix_probability:
            return Mixed(images_B3SS, partner_B, 1.0)
        if self._config.mix == "mixup":
            others_B3SS = images_B3SS[partner_B.to(images_B3SS.device)]
            return Mixed(torch.lerp(others_B3SS, images_B3SS, own_share), partner_B, own_share)
        return _pasted(images_B3SS, partner_B, own_share, place)

    def _beta(self) -> float:
        return self._random.betavariate(self._config.mix_alpha, self._config.mix_alpha)


def _pasted(
    images_B3SS: Tensor, partner_B: Tensor, own_share: float, place: tuple[float, float]
) -> Mixed:
    """Return images with one box from their partners, clipped at the border.

    As in CutMix's code: the box has the shape of the image and an area of 1 - own_share, its centre
    is uniform over the image, and the share is recomputed from the clipped box.
    """
    side = images_B3SS.shape[-1]
    box = int(side * (1 - own_share) ** 0.5)
    middle_y, middle_x = (int(at * side) for at in place)
    rows = slice(max(0, middle_y - box // 2), min(side, middle_y + box // 2))
    columns = slice(max(0, middle_x - box // 2), min(side, middle_x + box // 2))
    pasted_B3SS = images_B3SS.clone()
    others_B3SS = images_B3SS[partner_B.to(images_B3SS.device)]
    pasted_B3SS[..., rows, columns] = others_B3SS[..., rows, columns]
    area = (rows.stop - rows.start) * (columns.stop - columns.start)
    return Mixed(pasted_B3SS, partner_B, 1 - area / side**2)
