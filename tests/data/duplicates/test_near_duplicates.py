"""Copies of one photograph are found however they were made, and nothing else is."""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image, ImageDraw

from gendataagent.data.duplicates import near_duplicates
from gendataagent.data.duplicates.likeness import joined, measure_likeness
from gendataagent.data.duplicates.near_duplicates import References, near_duplicates_within
from gendataagent.data.duplicates.regions import Regions, find_regions
from gendataagent.data.duplicates.sketches import SKETCH, Shared, Sketches, sketch
from tests.data.copies import COPIES, photo


def sketches(images: list[Image.Image]) -> Sketches:
    made = np.empty(len(images), SKETCH)
    for index, image in enumerate(images):
        made[index] = sketch(image)
    return made


def test_a_sketch_is_of_the_centre_square() -> None:
    wide = Image.new("RGB", (320, 160), "red")
    wide.paste(photo(1), (80, 0))
    assert (sketch(wide)["thumbnail"] == sketch(photo(1))["thumbnail"]).all()
    means = np.asarray(photo(1), dtype=float).reshape(16, 10, 16, 10, 3).mean(axis=(1, 3))
    assert np.abs(sketch(photo(1))["thumbnail"] - means).max() <= 1


@pytest.mark.parametrize("kind", COPIES)
def test_copies_are_found_and_others_are_not(kind: str) -> None:
    originals = [photo(seed) for seed in range(40)]
    copies = [COPIES[kind](photo(seed)) for seed in range(10)]
    found = References(sketches(originals)).near_duplicates(sketches(copies))
    assert len({match.row for match in found}) >= (8 if "degrees" in kind else 9)
    assert all(match.row == match.reference for match in found)
    assert all(0.95 < match.correlation <= 1 for match in found)
    if "degrees" not in kind:
        expected = "mirrored" in kind or kind == "upside down"
        assert {match.mirrored for match in found} == {expected}


def test_within_a_set_each_pair_is_found_once() -> None:
    images = [photo(seed) for seed in range(20)] + [COPIES["90 degrees"](photo(3))]
    (found,) = near_duplicates_within(sketches(images))
    assert (found.row, found.reference) == (3, 20)


def products(count: int) -> list[Image.Image]:
    """Return different products on white."""
    made = []
    for seed in range(count):
        draw = np.random.default_rng(seed)
        image = Image.new("RGB", (128, 128), (252, 252, 252))
        pen = ImageDraw.Draw(image)
        width, height = int(draw.integers(30, 60)), int(draw.integers(15, 40))
        colour = tuple(int(v) for v in draw.integers(20, 150, 3))
        pen.ellipse((64 - width, 64 - height, 64 + width, 64 + height), fill=colour)
        for _ in range(5):
            x, y = int(draw.integers(30, 98)), int(draw.integers(40, 88))
            pen.rectangle(
                (x, y, x + 8, y + 8), fill=tuple(int(v) for v in draw.integers(0, 255, 3))
            )
        made.append(image)
    return made


def printed(count: int) -> list[Image.Image]:
    """Return products on white, many of about one outline; what is printed on them differs."""
    made = []
    for seed in range(count):
        draw = np.random.default_rng(seed)
        image = Image.new("RGB", (128, 128), (252, 252, 252))
        pen = ImageDraw.Draw(image)
        width, height = int(draw.integers(34, 46)), int(draw.integers(18, 34))
        colour = tuple(int(v) for v in draw.integers(20, 150, 3))
        shape = pen.ellipse if seed % 2 else pen.rectangle
        shape((64 - width, 64 - height, 64 + width, 64 + height), fill=colour)
        for _ in range(5):
            x, y = int(draw.integers(34, 90)), int(draw.integers(48, 80))
            pen.rectangle(
                (x, y, x + 4, y + 4), fill=tuple(int(v) for v in draw.integers(0, 255, 3))
            )
        made.append(image)
    return made


def one_channel(count: int) -> list[Image.Image]:
    """Return blurred spots, in green alone on a green ground."""
    made = []
    for seed in range(count):
        draw = np.random.default_rng(seed)
        image = Image.new("L", (64, 64), 70)
        for _ in range(6):
            x, y = draw.integers(4, 60, 2)
            ImageDraw.Draw(image).ellipse((x - 4, y - 4, x + 4, y + 4), fill=150)
        values = np.asarray(image)
        made.append(Image.fromarray(np.stack([values // 40, values, values // 40], axis=2)))
    return made


@pytest.mark.parametrize("make", [products, one_channel])
def test_a_common_background_or_tint_makes_no_near_duplicates(make) -> None:  # type: ignore[no-untyped-def]
    images = make(80)
    likeness = measure_likeness(sketches(images))
    assert likeness.all_alike or sum(p.certain for p in likeness.pairs) <= 4
    if not likeness.all_alike:
        again = measure_likeness(sketches([*images, COPIES["recompressed"](images[7])]))
        assert any((pair.row, pair.reference) == (7, 80) for pair in again.pairs)


def test_what_is_printed_on_products_of_one_outline_tells_them_apart() -> None:
    made = printed(140)
    train, test = made[:100], made[100:]
    copies = [COPIES[kind](test[3]) for kind in ("recompressed", "mirrored", "darker")]
    shared = Shared.of(sketches(made))
    found = References(sketches(test), shared).near_duplicates(sketches([*train, *copies]))
    assert {(match.row, match.reference) for match in found} == {(100, 3), (101, 3), (102, 3)}


def test_a_set_of_one_image_over_and_over_is_all_alike() -> None:
    images = [COPIES["recompressed"](photo(0).rotate(seed / 9)) for seed in range(30)]
    likeness = measure_likeness(sketches([*images, *(photo(seed) for seed in range(1, 30))]))
    assert likeness.all_alike


def test_images_of_one_colour_have_no_near_duplicates() -> None:
    plain = sketches([Image.new("RGB", (64, 64), (200, 30, 60))] * 12)
    assert near_duplicates_within(plain) == []
    assert References(sketches([photo(1)])).near_duplicates(plain) == []
    assert References(plain).near_duplicates(plain[:0]) == []


def test_time_grows_with_the_number_of_images() -> None:
    made = sketches([photo(seed, 64) for seed in range(240)])
    seconds = []
    for count in (60, 240):
        started = time.process_time()
        near_duplicates_within(made[:count])
        seconds.append(time.process_time() - started)
    assert seconds[1] < 10 * seconds[0] + 1


def test_what_images_share_is_found_in_any_orientation() -> None:
    shared = Shared.of(sketches(products(30)))
    turned = sketches([image.rotate(90) for image in products(30)])
    left = shared.remove(turned["thumbnail"])
    basis = shared.basis_KD
    assert len(basis)
    assert np.abs(left.reshape(len(left), -1) @ basis.T).max() < 0.05


def test_linked_images_have_one_group() -> None:
    assert list(joined(6, [(4, 2), (2, 5), (0, 1)])) == [0, 0, 2, 3, 2, 2]


def test_references_are_prepared_once_and_each_image_is_judged_on_its_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    originals, looked_at = sketches([photo(seed) for seed in range(90)]), []

    def counting(details_N: np.ndarray) -> Regions:
        looked_at.append(len(details_N))
        return find_regions(details_N)

    monkeypatch.setattr(near_duplicates, "find_regions", counting)
    references = References(originals, Shared.of(originals))
    copies = sketches([COPIES["cropped"](photo(seed)) for seed in range(6)])
    together = references.near_duplicates(copies)
    alone = [
        replace(match, row=row)
        for row in range(6)
        for match in references.near_duplicates(copies[row : row + 1])
    ]
    assert len(together) >= 5
    assert alone == together
    assert looked_at.count(90) == 1
