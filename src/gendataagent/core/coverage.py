"""How the synthetic images of a class lie among its real ones: a record, read without torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from statistics import fmean
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Coverage:
    """Measures of one class, or their means over classes.

    Args:
        precision: share of synthetic images that lie within the reach of a real one.
        recall: share of real images that lie within the reach of a synthetic one.
        density: within the reach of how many real images a synthetic one lies, over the number
            of neighbours that sets the reach; 1 where both are spread alike, not bounded.
        coverage: share of real images with a synthetic one within their reach.
        source_distance: mean cosine distance of a synthetic image to the one it was made from;
            None where all were made from text alone.
        images: synthetic images; references: real ones they are compared with.
    """

    precision: float
    recall: float
    density: float
    coverage: float
    source_distance: float | None
    images: int
    references: int

    def to_json(self) -> dict[str, Any]:
        """Return the fields as plain JSON values."""
        return asdict(self)


def mean_coverage(of_class: Mapping[str, Coverage]) -> Coverage | None:
    """Return the means over classes, every class alike, and all images; None without classes."""
    if not of_class:
        return None
    values: dict[str, Any] = {}
    for field in fields(Coverage):
        known = [v for one in of_class.values() if (v := getattr(one, field.name)) is not None]
        if field.name in ("images", "references"):
            values[field.name] = sum(known)
        else:
            values[field.name] = fmean(known) if known else None
    return Coverage(**values)
