"""Variance of gradients (VoG): how much an image's input gradient changes during training.

Agarwal, D'souza and Hooker, "Estimating Example Difficulty using Variance of Gradients", CVPR 2022.
The formula printed there ranks differently from its authors' code; this is the code's form [C]:

    S_t = d(logit of the true class, before softmax) / d(normalised image), mean over colours
    mu = mean_t S_t;  V = sqrt(mean_t (S_t - mu)^2) per pixel;  VoG = mean of V over the pixels

Letters in tensor names: K snapshots, N images, B images of a batch, H and W in px.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from gendataagent.core.errors import ModelError
from gendataagent.data.pixels import Pixels
from gendataagent.training.classifier import Classifier, raise_if_not_finite

MIN_SNAPSHOTS = 2  # with one snapshot the variance is 0 for every image
ACCUMULATOR_BYTES = 1 << 30  # limits how many images' running mean and M2 are held at a time


def true_class_input_gradients(
    classifier: Classifier,
    images_B3HW: Tensor,
    labels_B: Tensor,
    *,
    weights: Mapping[str, Tensor] | None = None,
) -> Tensor:
    """Return S [B, H, W] of float images in [0, 1], on the classifier's device.

    One backward of the summed true-class logits gives every image's own gradient, because in eval
    mode no image influences another's logits; with BatchNorm in train mode that would be wrong by
    an order of magnitude. The classifier is left as found.

    Args:
        weights: a state dict to use instead of the classifier's own weights.
    """
    with classifier.inference(), torch.enable_grad():
        inputs_B3HW = classifier.normalise(images_B3HW.to(classifier.device)).requires_grad_()
        logits_BC = classifier.logits_of_normalised(inputs_B3HW, weights=weights)
        true_B = logits_BC.gather(1, labels_B.to(classifier.device)[:, None])
        (gradients_B3HW,) = torch.autograd.grad(true_B.sum(), inputs_B3HW)
    return gradients_B3HW.mean(dim=1)


def variance_of_gradients(
    classifier: Classifier,
    snapshots: Iterable[Mapping[str, Tensor]],
    pixels: Pixels,
    *,
    batch_size: int = 128,
    class_normalised: bool = False,
) -> Tensor:
    """Return VoG [N] of the images, float32 on the CPU.

    Memory does not grow with the number of snapshots: a running mean and M2 (Welford).

    Args:
        classifier: gives the architecture; its own weights are neither used nor changed.
        snapshots: state dicts of its module from different epochs.
        class_normalised: return (VoG - mean) / std within each class (0 where std is 0).

    Raises:
        ValueError: fewer than two snapshots.
        ModelError: a snapshot of another architecture.
        ScoreError: scores that are not finite, with the ids of the images.
    """
    states = [_checked(classifier, state) for state in snapshots]
    if len(states) < MIN_SNAPSHOTS:
        raise ValueError(f"VoG needs at least {MIN_SNAPSHOTS} snapshots, got {len(states)}")
    classifier.check_labels(pixels)
    image_bytes = 2 * 4 * classifier.size_px**2
    at_a_time = max(1, ACCUMULATOR_BYTES // image_bytes)
    chunks = torch.split(torch.arange(len(pixels)), at_a_time) if len(pixels) else ()
    scores_N = torch.cat(
        [torch.empty(0)]
        + [_vog(classifier, states, pixels, indices, batch_size) for indices in chunks]
    )
    raise_if_not_finite(scores_N.isfinite(), pixels.ids, "the variance of gradients")
    return _class_normalised(scores_N, pixels.labels) if class_normalised else scores_N


def _checked(classifier: Classifier, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    expected = {name: value.shape for name, value in classifier.module.state_dict().items()}
    if {name: value.shape for name, value in state.items()} != expected:
        raise ModelError("a snapshot for VoG has other weights than the classifier's module")
    return {name: value.to(classifier.device) for name, value in state.items()}


def _vog(
    classifier: Classifier,
    states: list[dict[str, Tensor]],
    pixels: Pixels,
    indices_N: Tensor,
    batch_size: int,
) -> Tensor:
    """Return VoG of the images at `indices_N`: snapshots in the outer loop, batches inside."""
    side = classifier.size_px
    mean_NHW = torch.zeros((len(indices_N), side, side), device=classifier.device)
    m2_NHW = torch.zeros_like(mean_NHW)
    for count, state in enumerate(states, start=1):
        start = 0
        for batch, images in pixels.stream(torch.split(indices_N, batch_size), crop_px=side):
            gradients_BHW = true_class_input_gradients(
                classifier,
                images.to(classifier.device).float() / 255,
                pixels.labels[batch],
                weights=state,
            )
            here = slice(start, start + len(batch))
            delta_BHW = gradients_BHW - mean_NHW[here]
            mean_NHW[here] += delta_BHW / count
            m2_NHW[here] += delta_BHW * (gradients_BHW - mean_NHW[here])
            start += len(batch)
    return (m2_NHW / len(states)).sqrt().mean(dim=(1, 2)).cpu()


def _class_normalised(scores_N: Tensor, labels_N: Tensor) -> Tensor:
    """Return z-scores within each class; ranks inside a class are unchanged."""
    normalised_N = torch.zeros_like(scores_N)
    for label in sorted(set(labels_N.tolist())):
        here_N = labels_N == label
        std = scores_N[here_N].std(correction=0)
        if std > 0:
            normalised_N[here_N] = (scores_N[here_N] - scores_N[here_N].mean()) / std
    return normalised_N
