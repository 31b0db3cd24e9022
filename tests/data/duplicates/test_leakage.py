"""Near-duplicates are found although they were changed, and nothing else is."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from gendataagent.data.duplicates.leakage import near_duplicates
from gendataagent.data.pixels import Pixels
from tests.data.copies import photo

SIDE = 64


def make_images(count: int, seed: int = 0) -> Tensor:
    """Return images like photographs, no two alike."""
    made = [np.array(photo(1000 * seed + number, SIDE)) for number in range(count)]
    return torch.from_numpy(np.stack(made)).permute(0, 3, 1, 2)


def pixels_of(images_N3SS: Tensor, prefix: str) -> Pixels:
    count = len(images_N3SS)
    ids = [f"{prefix}{index}" for index in range(count)]
    return Pixels(
        images_N3SS.__getitem__, [0] * count, ids=ids, size_px=images_N3SS.shape[-1]
    )  # fmt: skip


def test_copies_are_found_with_pair_and_correlation_and_other_images_are_not() -> None:
    test, others = make_images(40), make_images(30, seed=1)
    noise = torch.randn((3, SIDE, SIDE), generator=torch.Generator().manual_seed(2)) * 6
    noisy = (test[7].float() * 0.8 + 30 + noise).clamp(0, 255).to(torch.uint8)
    images = torch.cat([others[:9], test[3:4], noisy[None], test[5:6].flip(-1), others[9:]])
    report = near_duplicates(pixels_of(images, "a"), pixels_of(test, "t"))
    found = {d.id: (d.reference_id, d.mirrored) for d in report.duplicates}
    assert found == {"a9": ("t3", False), "a10": ("t7", False), "a11": ("t5", True)}
    assert report.ids == {"a9", "a10", "a11"}
    correlations = [d.correlation for d in report.duplicates]
    assert correlations == sorted(correlations, reverse=True)
    assert correlations[0] > 0.999
    assert correlations[-1] > 0.95


def test_each_image_is_reported_once() -> None:
    test = make_images(5)
    images = pixels_of(torch.cat([test[:2], test[:2]]), "a")
    both = pixels_of(torch.cat([test, test.flip(-1)]), "t")
    assert [d.id for d in near_duplicates(images, both).duplicates] == ["a0", "a1", "a2", "a3"]


def test_sets_of_different_image_sizes_and_long_sets_are_compared() -> None:
    test = make_images(300, seed=3)
    large = torch.nn.functional.interpolate(test[-3:].float(), 128, mode="bilinear")
    report = near_duplicates(pixels_of(large.to(torch.uint8), "a"), pixels_of(test, "t"))
    assert {(d.id, d.reference_id) for d in report.duplicates} == {
        ("a0", "t297"), ("a1", "t298"), ("a2", "t299"),
    }  # fmt: skip
    back = near_duplicates(pixels_of(test, "t"), pixels_of(large.to(torch.uint8), "a"))
    assert back.ids == {"t297", "t298", "t299"}


def test_images_of_one_colour_and_empty_sets_have_no_near_duplicates() -> None:
    plain = torch.full((3, 3, SIDE, SIDE), 90, dtype=torch.uint8)
    assert near_duplicates(pixels_of(plain, "a"), pixels_of(plain, "t")).duplicates == ()
    nothing = pixels_of(make_images(1)[:0], "n")
    for one, other in ((nothing, pixels_of(plain, "t")), (pixels_of(plain, "a"), nothing)):
        assert near_duplicates(one, other).duplicates == ()
