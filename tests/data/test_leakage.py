"""Near-duplicates are found although they were changed, and nothing else is."""

from __future__ import annotations

import torch
from torch import Tensor

from gendataagent.data.leakage import near_duplicates
from gendataagent.data.pixels import Pixels

SIDE = 32


def make_images(count: int, seed: int = 0) -> Tensor:
    """Return smooth images, no two alike."""
    coarse = torch.rand((count, 3, 6, 6), generator=torch.Generator().manual_seed(seed))
    smooth = torch.nn.functional.interpolate(coarse, SIDE, mode="bilinear") * 255
    return smooth.round().to(torch.uint8)


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
    assert 0.9 < correlations[-1] < 0.999


def test_correlation_is_pearson_s_of_16_px_mean_colours() -> None:
    one, other = make_images(1), make_images(1, seed=4)
    mixed = (0.7 * one.float() + 0.3 * other.float()).round().to(torch.uint8)
    report = near_duplicates(pixels_of(mixed, "a"), pixels_of(one, "t"), threshold=-1)

    def means(images: Tensor) -> Tensor:
        return images[0].double().reshape(3, 16, 2, 16, 2).mean(dim=(2, 4)).flatten()

    expected = torch.corrcoef(torch.stack([means(mixed), means(one)]))[0, 1]
    assert abs(report.duplicates[0].correlation - expected) < 1e-5


def test_each_image_is_reported_once_and_only_above_the_threshold() -> None:
    test = make_images(5)
    images = pixels_of(torch.cat([test[:2], test[:2]]), "a")
    both = pixels_of(torch.cat([test, test.flip(-1)]), "t")
    assert [d.id for d in near_duplicates(images, both).duplicates] == ["a0", "a1", "a2", "a3"]
    assert near_duplicates(images, both, threshold=1.0).duplicates == ()


def test_sets_of_different_image_sizes_and_long_sets_are_compared() -> None:
    test = make_images(1500, seed=3)
    large = torch.nn.functional.interpolate(test[-3:].float(), 64, mode="bilinear")
    report = near_duplicates(pixels_of(large.to(torch.uint8), "a"), pixels_of(test, "t"))
    assert {(d.id, d.reference_id) for d in report.duplicates} == {
        ("a0", "t1497"), ("a1", "t1498"), ("a2", "t1499"),
    }  # fmt: skip
    back = near_duplicates(pixels_of(test, "t"), pixels_of(large.to(torch.uint8), "a"))
    assert back.ids == {"t1497", "t1498", "t1499"}


def test_images_of_one_colour_and_empty_sets_have_no_near_duplicates() -> None:
    plain = torch.full((3, 3, SIDE, SIDE), 90, dtype=torch.uint8)
    assert near_duplicates(pixels_of(plain, "a"), pixels_of(plain, "t")).duplicates == ()
    nothing = pixels_of(make_images(1)[:0], "n")
    for one, other in ((nothing, pixels_of(plain, "t")), (pixels_of(plain, "a"), nothing)):
        assert near_duplicates(one, other).duplicates == ()
