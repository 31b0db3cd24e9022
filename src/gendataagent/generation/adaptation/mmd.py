"""Distance between two sets of images: an unbiased kernel MMD with its standard error.

Letters in tensor names: N and M images of the two sets, D features of an image.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from gendataagent.core.errors import DataError

FEATURE_SIDE = 8
MIN_IMAGES = 3  # the jackknife leaves one out, and a pair must remain


@dataclass(frozen=True, slots=True, kw_only=True)
class Distance:
    """A squared maximum mean discrepancy and its standard error.

    The estimate is unbiased: for two samples of one distribution it varies around 0 and may be
    negative. Differences below about two standard errors are noise.
    """

    mmd2: float
    standard_error: float


def latent_features(latents_NCSS: Tensor) -> Tensor:
    """Return a row of features per image, [N, D]: its latent, averaged down to 8 x 8.

    An autoencoder's latent holds colour, brightness, contrast and layout. It hardly reflects the
    class of the object, or detail finer than an eighth of the image, and measures diversity within
    a class only in these terms. It is used because every latent diffusion model has one; CMMD
    (Jayasumana et al., CVPR 2024) uses CLIP's features.
    """
    latents_NCSS = latents_NCSS.float()
    if latents_NCSS.shape[-1] > FEATURE_SIDE:
        latents_NCSS = functional.adaptive_avg_pool2d(latents_NCSS, FEATURE_SIDE)
    return latents_NCSS.flatten(1)


class KernelMMD:
    """Squared MMD to one set of real images, always with the same kernel.

    The kernel is Gaussian, exp(-|x - y|^2 / (2 s^2)), with s the median distance between the
    reference's own images (Gretton et al., JMLR 2012, section 8); the estimate is their
    unbiased U-statistic (Lemma 6), as in KID (Binkowski et al., ICLR 2018) and CMMD. Sets many s
    apart all have about the same distance: this kernel resolves small distances only. Standard
    errors are by the two-sample jackknife.

    Args:
        reference_MD: features of the real images, [M, D].
    """

    def __init__(self, reference_MD: Tensor) -> None:
        _check(reference_MD)
        self._reference_MD = reference_MD.double()
        apart_MM = torch.cdist(self._reference_MD, self._reference_MD)
        off_diagonal = ~torch.eye(len(apart_MM), dtype=torch.bool)
        self.bandwidth = float(apart_MM[off_diagonal].median()) or 1.0
        self._reference = _Pairs(self._kernel(apart_MM))

    def distance(self, features_ND: Tensor) -> Distance:
        """Return the distance of [N, D] features to the reference."""
        value, by_own_N, by_reference_M = self._leaving_one_out(features_ND)
        return Distance(
            mmd2=value,
            standard_error=math.sqrt(_jackknife(by_own_N) + _jackknife(by_reference_M)),
        )

    def change(self, before_ND: Tensor, after_ND: Tensor) -> Distance:
        """Return the distance of `after` minus that of `before`; negative = `after` is nearer.

        Row i of both must have the same prompt and seed: their common variation cancels, so the
        standard error is smaller than for two unpaired distances.
        """
        if len(before_ND) != len(after_ND):
            raise DataError(f"{len(before_ND)} images before, but {len(after_ND)} after")
        first, first_N, first_M = self._leaving_one_out(before_ND)
        second, second_N, second_M = self._leaving_one_out(after_ND)
        variance = _jackknife(second_N - first_N) + _jackknife(second_M - first_M)
        return Distance(mmd2=second - first, standard_error=math.sqrt(variance))

    def _leaving_one_out(self, features_ND: Tensor) -> tuple[float, Tensor, Tensor]:
        """Return MMD^2, and MMD^2 without each image of the set [N] and the reference [M]."""
        _check(features_ND)
        own_ND = features_ND.double()
        own = _Pairs(self._kernel(torch.cdist(own_ND, own_ND)))
        cross_NM = self._kernel(torch.cdist(own_ND, self._reference_MD))
        n, m = cross_NM.shape
        total = cross_NM.sum()
        value = own.mean + self._reference.mean - 2 * total / (n * m)
        without_N = (
            own.mean_without_each
            + self._reference.mean
            - 2 * (total - cross_NM.sum(1)) / ((n - 1) * m)
        )
        without_M = (
            own.mean
            + self._reference.mean_without_each
            - 2 * (total - cross_NM.sum(0)) / (n * (m - 1))
        )
        return float(value), without_N, without_M

    def _kernel(self, apart: Tensor) -> Tensor:
        return torch.exp(-apart.square() / (2 * self.bandwidth**2))


class _Pairs:
    """Mean of a kernel over the pairs of one set, with all images and without each one."""

    def __init__(self, kernel_NN: Tensor) -> None:
        n = len(kernel_NN)
        rows_N = kernel_NN.sum(1) - kernel_NN.diagonal()
        total = rows_N.sum()
        self.mean = total / (n * (n - 1))
        self.mean_without_each = (total - 2 * rows_N) / ((n - 1) * (n - 2))


def _jackknife(without_each_N: Tensor) -> float:
    """Return the jackknife variance of a statistic from its values with one left out."""
    n = len(without_each_N)
    return float((n - 1) / n * (without_each_N - without_each_N.mean()).square().sum())


def _check(features_ND: Tensor) -> None:
    if len(features_ND) < MIN_IMAGES:
        raise DataError(
            f"a distance needs at least {MIN_IMAGES} images in each set, got "
            f"{len(features_ND)}; raise adaptation.measure_images, or set it to 0 to measure none"
        )
    if not torch.isfinite(features_ND).all():
        raise DataError(
            "some images have latents that are not finite, so no distance can be computed; "
            "set adaptation.mixed_precision=no"
        )
