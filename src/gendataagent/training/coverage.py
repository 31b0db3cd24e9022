"""Precision, recall, density and coverage of synthetic images, class by class.

The reach of an image is the distance to its k-th nearest neighbour of the same kind and class, in
the features of the classifier, whose length is left out as in `memorisation`. The real images are
those that the classifier was not trained on: it sees its training images as more alike.

Sources: Kynkäänniemi et al., NeurIPS 2019 (precision, recall); Naeem et al., ICML 2020 (density,
coverage). Theirs are features of an ImageNet network and all classes together; the figures of two
networks, or two sets of real images, are not comparable.

Letters in tensor names: M synthetic images, N real ones, D features.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from gendataagent.core.coverage import Coverage
from gendataagent.core.errors import DataError
from gendataagent.data.pixels import Pixels
from gendataagent.training.classifier import Classifier

NEIGHBOURS = 5  # Naeem et al.


def coverage_by_class(
    classifier: Classifier,
    synthetic: Pixels,
    sources: Sequence[str],
    *,
    train: Pixels,
    real: Pixels,
    neighbours: int = NEIGHBOURS,
) -> dict[str, Coverage]:
    """Return class name -> measures; without classes that have too few images of either kind.

    Args:
        sources: id, in `train`, of the image each synthetic one was made from; "" = from none.
        real: images that the classifier was not trained on.

    Raises:
        DataError: not exactly one source each.
    """
    if len(sources) != len(synthetic):
        raise DataError(f"{len(synthetic)} synthetic images but {len(sources)} sources")
    made_MD, real_ND, train_TD = (_unit(classifier, p) for p in (synthetic, real, train))
    place = {id_: index for index, id_ in enumerate(train.ids)}
    known_M = torch.tensor([source in place for source in sources], dtype=torch.bool)
    source_M = torch.tensor([place.get(source, 0) for source in sources])
    apart_M = 1 - (made_MD * train_TD[source_M]).sum(dim=1)
    found = {}
    for label, name in enumerate(classifier.class_names):
        of_made, of_real = synthetic.labels == label, real.labels == label
        if min(int(of_made.sum()), int(of_real.sum())) <= neighbours:
            continue
        apart = apart_M[of_made & known_M]
        found[name] = Coverage(
            **_measures(made_MD[of_made], real_ND[of_real], neighbours),
            source_distance=float(apart.mean()) if len(apart) else None,
            images=int(of_made.sum()),
            references=int(of_real.sum()),
        )
    return found


def _measures(made_MD: Tensor, real_ND: Tensor, neighbours: int) -> dict[str, float]:
    """Return the four measures of one class."""
    apart_NM = torch.cdist(real_ND, made_MD)
    in_reach_of_real_NM = apart_NM < _reach(real_ND, neighbours)[:, None]
    in_reach_of_made_NM = apart_NM < _reach(made_MD, neighbours)[None, :]
    return {
        "precision": float(in_reach_of_real_NM.any(dim=0).float().mean()),
        "recall": float(in_reach_of_made_NM.any(dim=1).float().mean()),
        "density": float(in_reach_of_real_NM.sum(dim=0).float().mean() / neighbours),
        "coverage": float(in_reach_of_real_NM.any(dim=1).float().mean()),
    }


def _reach(features_ND: Tensor, neighbours: int) -> Tensor:
    """Return the distance of each image to its k-th nearest other one, [N]."""
    apart_NN = torch.cdist(features_ND, features_ND)
    apart_NN.fill_diagonal_(0.0)  # rounding leaves it near zero
    return apart_NN.kthvalue(neighbours + 1, dim=1).values


def _unit(classifier: Classifier, pixels: Pixels) -> Tensor:
    return functional.normalize(classifier.features(pixels))
