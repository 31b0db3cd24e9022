"""Two classifiers on the same images: is the difference in accuracy beyond chance?

The decision is McNemar's exact test (Psychometrika 12, 1947): among the images that only one of the
two classifies correctly, either is as likely to be right as a fair coin. The interval of the
difference is Bonett and Price's (J. Educ. Behav. Stat. 37, 2012): Wald's with one image added to
each kind of disagreement, which keeps 95 % where images are few. Both are about other test images
of the same kind; another training seed changes the difference too.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

SIGNIFICANT = 0.05
_Z = 1.959964  # 95 %


@dataclass(frozen=True, slots=True, kw_only=True)
class PairedTest:
    """The comparison of two classifiers on the same images.

    Args:
        only_first, only_second: images that only that one classifies correctly.
        p_value: of McNemar's exact test, two-sided.
        low, high: ends of the 95 % interval of the accuracy of the first minus that of the second.
    """

    images: int
    only_first: int
    only_second: int
    p_value: float
    low: float
    high: float

    @property
    def difference(self) -> float:
        """Accuracy of the first minus accuracy of the second, in [-1, 1]."""
        return (self.only_first - self.only_second) / self.images

    @property
    def beyond_chance(self) -> bool:
        """Whether the p-value is below 5 %."""
        return self.p_value < SIGNIFICANT

    @property
    def disagreements(self) -> int:
        """Images that one of the two classifies correctly and the other does not."""
        return self.only_first + self.only_second

    @property
    def least_beyond_chance(self) -> int | None:
        """Return the least difference, in images, that so many disagreements could show; None if
        they are too few to show any.
        """
        total, tail, ways, least = self.disagreements, 0, 1, None
        for larger in range(total, total // 2, -1):
            tail += ways
            if 2 * tail / 2**total >= SIGNIFICANT:
                break
            least = 2 * larger - total
            ways = ways * larger // (total - larger + 1)
        return least


def compare_right(first: Mapping[str, bool], second: Mapping[str, bool]) -> PairedTest | None:
    """Return the comparison of two classifiers; None unless both have the same images.

    Args:
        first, second: id of each image -> whether it is classified correctly.
    """
    if not first or first.keys() != second.keys():
        return None
    only_first = sum(right and not second[id_] for id_, right in first.items())
    only_second = sum(right and not first[id_] for id_, right in second.items())
    low, high = _interval(only_first, only_second, len(first))
    return PairedTest(
        images=len(first),
        only_first=only_first,
        only_second=only_second,
        p_value=two_sided(max(only_first, only_second), only_first + only_second),
        low=low,
        high=high,
    )


def two_sided(larger: int, discordant: int) -> float:
    """Return min(1, 2 P(X >= larger)), X ~ B(discordant, 1/2)."""
    return min(1.0, 2 * mcnemar_p_value(discordant - larger, larger))


def mcnemar_p_value(only_agent: int, only_baseline: int) -> float:
    """Return the p-value of McNemar's exact test, one-sided: the agent's classifier is worse.

    P(X >= only_baseline), X ~ B(only_agent + only_baseline, 1/2).
    """
    discordant = only_agent + only_baseline
    tail, ways = 0, math.comb(discordant, only_baseline)
    for larger in range(only_baseline, discordant + 1):
        tail += ways
        ways = ways * (discordant - larger) // (larger + 1)
    return float(tail / 2**discordant)


def _interval(only_first: int, only_second: int, images: int) -> tuple[float, float]:
    one, other = (only_first + 1) / (images + 2), (only_second + 1) / (images + 2)
    half = _Z * math.sqrt((one + other - (one - other) ** 2) / (images + 2))
    return max(-1.0, one - other - half), min(1.0, one - other + half)
