"""JPEG files with zeros in place of image data are refused, others never."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gendataagent.data import load_data
from gendataagent.data.decoding.jpeg_damage import damage_of


def photo(seed: int = 0, side: int = 200) -> Image.Image:
    coarse = np.random.default_rng(seed).integers(0, 256, (40, 40, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((side, side), Image.Resampling.BICUBIC)


def jpeg(image: Image.Image, **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, "JPEG", **options)
    return stream.getvalue()


OPTIONS: tuple[dict[str, object], ...] = (
    {},
    {"progressive": True},
    {"optimize": True},
    {"quality": 98, "subsampling": 0},
)


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("share", [0.3, 0.6, 0.95])
def test_a_tail_of_zeros_is_damage(options: dict[str, object], share: float) -> None:
    content = jpeg(photo(), **options)
    kept = int(len(content) * share)
    assert "zeros" in str(damage_of(content[:kept] + bytes(len(content) - kept)))


@pytest.mark.parametrize("options", [OPTIONS[0], OPTIONS[3]])
def test_a_hole_of_zeros_is_damage(options: dict[str, object]) -> None:
    content = jpeg(photo(), **options)
    middle = len(content) // 2
    assert "from byte" in str(damage_of(content[:middle] + bytes(512) + content[middle + 512 :]))


def test_a_hole_of_zeros_in_a_progressive_file_is_damage() -> None:
    content = jpeg(photo(), progressive=True)
    middle = len(content) // 2
    for zeros in (512, len(content) - middle - 16):
        hole = content[:middle] + bytes(zeros) + content[middle + zeros :]
        assert "from byte" in str(damage_of(hole))


@pytest.mark.parametrize("share", [0.3, 0.6])
@pytest.mark.parametrize("options", [*OPTIONS, {"restart_marker_rows": 1}])
def test_data_that_ends_early_with_an_end_marker_is_damage(
    options: dict[str, object], share: float
) -> None:
    content = jpeg(photo(), **options)
    cut = content[: int(len(content) * share)] + b"\xff\xd9"
    said = "lacks its last scans" if "progressive" in options else "ends before the image does"
    assert said in str(damage_of(cut, may_end_early=True))


@pytest.mark.parametrize("options", OPTIONS)
def test_a_grey_image_does_not_end_early(options: dict[str, object]) -> None:
    grey = jpeg(Image.new("RGB", (99, 50), (128, 128, 128)), **options)
    assert damage_of(grey, may_end_early=True) is None


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize(
    "image",
    [photo(), photo().convert("L"), Image.new("RGB", (900, 900), "white"), Image.new("L", (9, 9)),
     Image.new("RGB", (4000, 300), (3, 90, 200))],
)  # fmt: skip
def test_whole_files_are_not(options: dict[str, object], image: Image.Image) -> None:
    content = jpeg(image, **options)
    for ending in (b"", bytes(4096), b"trailer"):
        assert damage_of(content + ending, may_end_early=True) is None
    assert damage_of(content[:-2]) is None  # decoders forgive it


def test_a_thumbnail_inside_a_damaged_file_does_not_hide_the_damage() -> None:
    exif = b"Exif\0\0" + jpeg(photo(1, 60))
    content = jpeg(photo(), exif=exif)
    half = len(content) // 2
    assert damage_of(content) is None
    assert damage_of(content[:half] + bytes(len(content) - half)) is not None


def test_a_damaged_image_is_quarantined(tmp_path: Path) -> None:
    for number, name in enumerate(("cat", "dog") * 3):
        (tmp_path / name).mkdir(exist_ok=True)
        content = jpeg(photo(number))
        if number == 5:
            content = content[: len(content) // 2] + bytes(20_000)
        (tmp_path / name / f"{number}.jpg").write_bytes(content)
    data = load_data(str(tmp_path))
    assert [bad.name for bad in data.quarantined] == ["dog/5.jpg"]
    assert "zeros" in data.quarantined[0].reason
