"""Whether synthetic images copy training images: are they nearer to these than to others?

The memorisation ratio is the share of synthetic images whose most similar image among training
images is more similar than among as many held-out images of the same classes. 0.5 = no copying.
Similarity is the cosine of the classifier's features, as in the 15-NN filter: it ignores the length
of a feature vector, which grows with the classifier's confidence.

Two things raise the ratio without copying, so both are measured beside it:

- Image-to-image starts from a training image. `without_source` leaves out each image's own
  source and one held-out image of its class, so that 0.5 still means no copying.
- A classifier sees images it was trained on as more typical. `control` is the same ratio for real
  images it was not trained on (of another split): compare with that, not with 0.5 alone.

Letters in tensor names: M synthetic images, B of a batch, N reference images of either kind, D
features.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from gendataagent.core.errors import DataError
from gendataagent.core.records import derive_seed
from gendataagent.data.pixels import Pixels
from gendataagent.training.classifier import Classifier

DRAWS = 5
_BATCH = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class Memorisation:
    """Memorisation ratios, shares in [0, 1]; ties count half.

    Args:
        ratio: with the source images; without_source: each image's own source left out.
        control: the ratio of real images not trained on; None without such images.
        images: synthetic images; references: images in each of the two sets compared with.
        draws: how often the references were drawn; ratios are means over the draws.
    """

    ratio: float
    without_source: float
    control: float | None
    images: int
    references: int
    draws: int

    def to_json(self) -> dict[str, Any]:
        """Return the fields as plain JSON values."""
        return asdict(self)


def memorisation(
    classifier: Classifier,
    synthetic: Pixels,
    sources: Sequence[str],
    *,
    train: Pixels,
    held_out: Pixels,
    seed: int,
    control: Pixels | None = None,
    draws: int = DRAWS,
) -> Memorisation:
    """Return how much nearer `synthetic` is to `train` than to `held_out`.

    Args:
        sources: id, in `train`, of the image each synthetic one was made from; "" = from none.
        held_out: images not used in training or generation (validation).
        control: further such images, not among `held_out` (test).

    Raises:
        DataError: no synthetic images, not exactly one source each, or no class with images in
            both `train` and `held_out`.
    """
    if len(sources) != len(synthetic) or not len(synthetic):
        raise DataError(
            "memorisation needs synthetic images and the source of each, got "
            f"{len(synthetic)} images and {len(sources)} sources"
        )
    train_ND, held_ND, made_MD = (_unit(classifier, p) for p in (train, held_out, synthetic))
    control_KD = _unit(classifier, control) if control is not None else made_MD[:0]
    place = {id_: index for index, id_ in enumerate(train.ids)}
    source_M = torch.tensor([place.get(source, -1) for source in sources])
    ratios, without, controls = [], [], []
    for draw in range(draws):
        trained_N, unseen_N = _pairs(train, held_out, derive_seed(seed, "memorisation", draw))
        near_ND, far_ND = train_ND[trained_N], held_ND[unseen_N]
        ratios.append(_share_nearer(made_MD, near_ND, far_ND))
        left_out_MN = source_M[:, None] == trained_N
        without.append(_share_nearer(made_MD, near_ND, far_ND, left_out_MN))
        if len(control_KD):
            controls.append(_share_nearer(control_KD, near_ND, far_ND))
    return Memorisation(
        ratio=sum(ratios) / draws,
        without_source=sum(without) / draws,
        control=sum(controls) / draws if controls else None,
        images=len(synthetic),
        references=len(trained_N),
        draws=draws,
    )


def _unit(classifier: Classifier, pixels: Pixels) -> Tensor:
    return functional.normalize(classifier.features(pixels, _BATCH))


def _pairs(train: Pixels, held_out: Pixels, seed: int) -> tuple[Tensor, Tensor]:
    """Return equally many indices of both sets, drawn by seed, equally many of each class.

    The n-th of one and the n-th of the other have the same class.
    """
    draw = random.Random(seed)
    chosen: tuple[list[int], list[int]] = [], []
    for label in sorted(set(train.labels.tolist())):
        members = [(p.labels == label).nonzero().flatten().tolist() for p in (train, held_out)]
        count = min(map(len, members))
        for into, indices in zip(chosen, members, strict=True):
            into.extend(draw.sample(indices, count))
    if not chosen[0]:
        raise DataError(
            "memorisation compares training with held-out images of the same classes, but no "
            "class has both; give the data a validation split"
        )
    return torch.tensor(chosen[0]), torch.tensor(chosen[1])


def _share_nearer(
    images_MD: Tensor, near_ND: Tensor, far_ND: Tensor, left_out_MN: Tensor | None = None
) -> float:
    """Return the share of images more similar to one of `near` than to any of `far`.

    Args:
        left_out_MN: which of `near`, and its partner in `far`, is left out.
    """
    votes = 0.0
    for batch in torch.arange(len(images_MD)).split(_BATCH):
        near_BN, far_BN = images_MD[batch] @ near_ND.T, images_MD[batch] @ far_ND.T
        if left_out_MN is not None:
            near_BN, far_BN = (
                part_BN.masked_fill(left_out_MN[batch], -2.0) for part_BN in (near_BN, far_BN)
            )
        seen_B, unseen_B = near_BN.amax(dim=1), far_BN.amax(dim=1)
        votes += float((seen_B > unseen_B).sum() + 0.5 * (seen_B == unseen_B).sum())
    return votes / len(images_MD)
