"""Near-duplicates between sets of pictures: test pictures where they must not be, and copies.

Two pictures repeat each other when the correlation of their 16 x 16 RGB thumbnails (mean taken
out, length 1) exceeds a threshold, also when one is mirrored. The threshold was chosen by eye on
CIFAR-10 pairs sorted by correlation: above 0.94 nearly every pair is the same photograph, between
0.90 and 0.92 about a third. Pictures of one colour have no correlation and repeat nothing.

Letters in tensor names: N pictures, B pictures of a batch, R references, D thumbnail values.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from gendataagent.pixels import Pixels

DUPLICATE_CORRELATION = 0.90
THUMBNAIL_PX = 16
_BATCH = 1024


@dataclass(frozen=True, slots=True)
class Duplicate:
    """A picture and the one it repeats most closely.

    Args:
        id: of the picture in the set that was looked through.
        reference_id: of the picture it repeats.
        correlation: of their thumbnails, above the threshold and at most 1.
        mirrored: whether it repeats the mirror image.
    """

    id: str
    reference_id: str
    correlation: float
    mirrored: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class LeakageReport:
    """What one set holds of a reference set.

    Args:
        images: size of the set that was looked through; references: of the reference set.
        duplicates: every picture of the set that repeats a reference picture, closest first.
    """

    images: int
    references: int
    threshold: float
    duplicates: tuple[Duplicate, ...]

    @property
    def ids(self) -> frozenset[str]:
        """Ids of the set's pictures that repeat a reference picture: those to be removed."""
        return frozenset(duplicate.id for duplicate in self.duplicates)

    @property
    def repeated_references(self) -> int:
        """Reference pictures that at least one picture repeats most closely."""
        return len({duplicate.reference_id for duplicate in self.duplicates})

    def to_json(self) -> dict[str, Any]:
        """Return the fields as plain JSON values."""
        return {
            "images": self.images,
            "references": self.references,
            "threshold": self.threshold,
            "duplicates": [
                [d.id, d.reference_id, d.correlation, d.mirrored] for d in self.duplicates
            ],
        }


def audit(
    sets: Mapping[str, Pixels], test: Pixels, *, threshold: float = DUPLICATE_CORRELATION
) -> dict[str, LeakageReport]:
    """Return, for each named set (train, synthetic, generator corpus...), what it holds of `test`.

    To remove what was found: `images.subset(i for i, id in enumerate(images.ids) if id not in
    report.ids)`.
    """
    return {name: near_duplicates(pixels, test, threshold=threshold)
            for name, pixels in sets.items()}  # fmt: skip


def near_duplicates(
    images: Pixels, references: Pixels, *, threshold: float = DUPLICATE_CORRELATION
) -> LeakageReport:
    """Return the pictures of `images` that repeat one of `references`, each with the closest.

    Also shows copies by the generator: `near_duplicates(synthetic, train)`. The sets may be of
    different picture sizes; memory grows with the references alone (6 kB each).
    """
    found: list[Duplicate] = []
    if len(images) and len(references):
        plain_RD = _thumbnails(references, mirrored=False)
        mirrored_RD = _thumbnails(references, mirrored=True)
        for batch in torch.arange(len(images)).split(_BATCH):
            here_BD = _flat(images.batch(batch))
            both_2BR = torch.stack([here_BD @ plain_RD.T, here_BD @ mirrored_RD.T])
            either_BR, way_BR = both_2BR.max(dim=0)
            best_B, reference_B = either_BR.clamp(max=1).max(dim=1)  # rounding goes over 1
            for row in (best_B > threshold).nonzero().flatten().tolist():
                reference = int(reference_B[row])
                found.append(
                    Duplicate(
                        images.ids[int(batch[row])],
                        references.ids[reference],
                        float(best_B[row]),
                        bool(way_BR[row, reference]),
                    )
                )
    found.sort(key=lambda duplicate: (-duplicate.correlation, duplicate.id))
    return LeakageReport(
        images=len(images),
        references=len(references),
        threshold=threshold,
        duplicates=tuple(found),
    )


def say(reports: Mapping[str, LeakageReport], what: str = "test pictures") -> Sequence[str]:
    """Return one sentence a set, for people."""
    return [
        f"{name}: {len(report.ids)} of {report.images} pictures repeat {what} "
        f"({report.repeated_references} of {report.references}; correlation of thumbnails above "
        f"{report.threshold:g})"
        for name, report in reports.items()
    ]


def _thumbnails(pixels: Pixels, *, mirrored: bool) -> Tensor:
    batches = torch.arange(len(pixels)).split(_BATCH)
    images = (pixels.batch(batch) for batch in batches)
    return torch.cat([_flat(batch.flip(-1) if mirrored else batch) for batch in images])


def _flat(images_B3SS: Tensor) -> Tensor:
    """Return thumbnails [B, D] with their mean taken out and of length 1 (0 where all is alike)."""
    small = functional.adaptive_avg_pool2d(images_B3SS.float(), THUMBNAIL_PX)
    flat_BD = small.flatten(start_dim=1)
    return functional.normalize(flat_BD - flat_BD.mean(dim=1, keepdim=True), eps=1e-3)
