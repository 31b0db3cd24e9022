"""The near-duplicate search and its thumbnails."""

from __future__ import annotations

import io

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image, ImageOps

from gendataagent.core.errors import DataError
from gendataagent.data import near_duplicates
from gendataagent.data.near_duplicates import Match, find_near_duplicates, thumbnail

Uint8Array = npt.NDArray[np.uint8]


def make_image(seed: int, size: tuple[int, int] = (64, 64)) -> Image.Image:
    """Return a smooth image; no two seeds give similar ones."""
    coarse = np.random.default_rng(seed).integers(0, 256, (5, 5, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC)


def thumbnails(*seeds: int) -> Uint8Array:
    return np.stack([thumbnail(make_image(seed)) for seed in seeds])


def by_hand(one: Uint8Array, other: Uint8Array) -> float:
    return float(np.corrcoef(one.ravel().astype(float), other.ravel().astype(float))[0, 1])


def test_a_thumbnail_is_the_mean_of_the_centre_square() -> None:
    wide = Image.new("RGB", (96, 64), "red")
    wide.paste(make_image(1), (16, 0))
    expected = np.asarray(make_image(1), dtype=float).reshape(16, 4, 16, 4, 3).mean(axis=(1, 3))
    assert np.abs(thumbnail(wide) - expected).max() <= 1


def test_the_closest_reference_of_each_image_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(near_duplicates, "_ROWS", 7)
    monkeypatch.setattr(near_duplicates, "_COLUMNS", 5)
    monkeypatch.setattr(near_duplicates, "_SKETCH", 6)
    images, references = thumbnails(*range(30)), thumbnails(*range(100, 123))
    seen: list[tuple[int, int]] = []
    found = find_near_duplicates(
        images, references, threshold=0.2, on_progress=lambda *step: seen.append(step)
    )
    expected = []
    for row, image in enumerate(images):
        both = [
            max((by_hand(image, r), False), (by_hand(image, r[:, ::-1]), True)) for r in references
        ]
        best = max(range(len(both)), key=lambda i: both[i][0])
        if both[best][0] > 0.2:
            expected.append(Match(row, best, pytest.approx(both[best][0]), both[best][1]))  # type: ignore[arg-type]
    assert found == expected
    assert 5 < len(found) < 30
    assert {match.mirrored for match in found} == {True, False}
    assert seen[-1] == (30, 30)


def test_a_brighter_mirrored_jpeg_of_another_size_is_the_same_image() -> None:
    stream = io.BytesIO()
    changed = ImageOps.mirror(make_image(3, (200, 200))).point(
        lambda v: min(255, int(v * 0.8 + 40))
    )
    changed.save(stream, "JPEG", quality=60)
    images = np.stack([thumbnail(Image.open(stream).convert("RGB"))])
    (found,) = find_near_duplicates(images, thumbnails(1, 2, 3, 4))
    assert (found.reference, found.mirrored) == (2, True)
    assert found.correlation > 0.98


def test_images_of_one_colour_have_no_near_duplicates() -> None:
    plain = np.zeros((3, 16, 16, 3), dtype=np.uint8)
    plain[:] = [200, 30, 60]
    plain[1, 4, 4] += 1
    assert find_near_duplicates(plain, plain) == []
    assert find_near_duplicates(thumbnails(1, 2)[:0], plain) == []


def test_a_plain_reference_does_not_hide_the_copy_beside_it() -> None:
    draw = np.random.default_rng(0)
    tint = np.full((16, 16, 3), [200, 100, 40])
    image = tint + draw.integers(-9, 10, tint.shape)
    copy = image + draw.integers(-12, 13, tint.shape)
    images, references = (np.stack(s).astype(np.uint8) for s in ([image], [tint, copy]))
    (found,) = find_near_duplicates(images, references)
    assert found.reference == 1
    assert found.correlation < by_hand(images[0], references[0])


def test_other_shapes_are_refused() -> None:
    with pytest.raises(DataError, match="shape"):
        find_near_duplicates(np.zeros((2, 32, 32, 3)), thumbnails(1))
