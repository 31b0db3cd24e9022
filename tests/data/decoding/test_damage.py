"""Image files whose end is missing or filled up are refused, whole ones never."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, features

from gendataagent.core.errors import ImageUnreadableError
from gendataagent.data import load_data
from gendataagent.data.decoding.damage import check_whole

KINDS: dict[str, tuple[str, dict[str, object]]] = {
    "webp": ("WEBP", {}),
    "lossless webp": ("WEBP", {"lossless": True}),
    "animated webp": ("WEBP", {"save_all": True}),
    "avif": ("AVIF", {}),
    "qoi": ("QOI", {}),
    "png": ("PNG", {}),
    "icon": ("ICO", {}),
    "jpeg": ("JPEG", {}),
    "optimised jpeg": ("JPEG", {"optimize": True}),
}


def photo(side: int = 200) -> Image.Image:
    coarse = np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((side, side), Image.Resampling.BICUBIC)


def encoded(kind: str, image: Image.Image) -> bytes:
    name, options = KINDS[kind]
    Image.init()
    if name not in Image.SAVE or (name == "AVIF" and not features.check("avif")):
        pytest.skip(f"this Pillow writes no {name}")
    if kind.startswith("animated"):
        options = {**options, "append_images": [image.rotate(90)]}
    stream = io.BytesIO()
    image.save(stream, name, **options)
    return stream.getvalue()


def damage(
    kind: str, content: bytes, size: tuple[int, int], image: Image.Image | None = None
) -> str:
    try:
        check_whole(io.BytesIO(content), KINDS[kind][0], size, image)
    except ImageUnreadableError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("share", [0.4, 0.7, 0.95])
def test_a_tail_of_zeros_is_damage(kind: str, share: float) -> None:
    content = encoded(kind, photo())
    kept = int(len(content) * share)
    assert damage(kind, content[:kept] + bytes(len(content) - kept), (200, 200))


@pytest.mark.parametrize("kind", ["webp", "png", "icon"])
def test_a_hole_of_zeros_is_damage(kind: str) -> None:
    content = encoded(kind, photo())
    middle = len(content) // 2
    assert damage(kind, content[:middle] + bytes(512) + content[middle + 512 :], (200, 200))


@pytest.mark.parametrize("kind", ["webp", "avif"])
def test_a_tail_of_another_filling_is_damage(kind: str) -> None:
    content = encoded(kind, photo())
    kept = len(content) // 2
    assert "bytes 0xff" in damage(
        kind, content[:kept] + b"\xff" * (len(content) - kept), (200, 200)
    )


def test_a_jpeg_that_ends_early_is_known_by_its_grey_corner() -> None:
    for mode in ("RGB", "L", "CMYK"):
        content = encoded("jpeg", photo().convert(mode))
        cut = content[: len(content) // 2] + b"\xff\xd9"
        for file, said in ((cut, "ends before"), (content, "")):
            image = Image.open(io.BytesIO(file)).convert("RGB")
            assert said == damage("jpeg", file, (200, 200), image)[10 : 10 + len(said)]


@pytest.mark.parametrize("filling", [0xFF, 0xAA])
def test_a_tail_of_another_filling_is_damage_to_a_jpeg(filling: int) -> None:
    content = encoded("optimised jpeg", photo())
    kept = len(content) // 2
    tail = bytes([filling]) * (len(content) - kept)
    assert "without an end marker" in damage("optimised jpeg", content[:kept] + tail, (200, 200))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "image",
    [photo(), Image.new("RGB", (3000, 2000), "white"), Image.new("RGB", (3000, 900), (3, 90, 200)),
     Image.new("RGB", (16, 16)), photo(33).resize((1500, 40))],
    ids=["photo", "white", "blue", "tiny", "strip"],
)  # fmt: skip
def test_whole_files_are_not(kind: str, image: Image.Image) -> None:
    assert damage(kind, encoded(kind, image), image.size) == ""


def test_padding_after_the_end_is_no_damage() -> None:
    for kind in ("webp", "qoi", "jpeg"):
        assert damage(kind, encoded(kind, photo()) + bytes(4096), (200, 200)) == ""


def test_a_damaged_webp_is_quarantined(tmp_path: Path) -> None:
    content = encoded("webp", photo())
    for name in ("cat", "dog"):
        (tmp_path / name).mkdir()
        for number in range(4):
            photo(60 + number).save(tmp_path / name / f"{number}.png")
    half = len(content) // 2
    (tmp_path / "cat/x.webp").write_bytes(content[:half] + bytes(half))
    (bad,) = load_data(str(tmp_path)).quarantined
    assert bad.name == "cat/x.webp"
    assert "not fully copied" in bad.reason
