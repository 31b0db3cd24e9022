"""Photographs of an iPhone, with pillow-heif and without it."""

from __future__ import annotations

import contextlib
import io
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from gendataagent.core.errors import ImageUnreadableError
from gendataagent.data.decoding.damage import check_whole
from gendataagent.data.decoding.images import open_image, to_rgb


def test_without_the_package_the_reason_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    Image.init()
    monkeypatch.setitem(__import__("sys").modules, "pillow_heif", None)
    monkeypatch.delitem(Image.OPEN, "HEIF", raising=False)
    for brand in (b"heic", b"heix", b"mif1"):
        content = b"\0\0\0\x18ftyp" + brand + b"\0\0\0\0mif1heic" + bytes(100)
        with pytest.raises(ImageUnreadableError, match="pip install pillow-heif"):
            open_image(io.BytesIO(content), 1e6)


def test_with_the_package_it_is_read_upright() -> None:
    pillow_heif = pytest.importorskip("pillow_heif", reason="pip install pillow-heif")
    image = Image.new("RGB", (64, 32), "red")
    image.paste("blue", (0, 0, 32, 32))
    exif = Image.Exif()
    exif[0x0112] = 6
    file = io.BytesIO()
    pillow_heif.from_pillow(image).save(file, exif=exif.tobytes())
    file.seek(0)
    found = to_rgb(open_image(file, 1e6))
    assert found.size == (32, 64)
    red, _, blue = found.getpixel((16, 8))  # type: ignore[misc]
    assert blue > 200 > red


@cache
def photo() -> bytes:
    pillow_heif = pytest.importorskip("pillow_heif", reason="pip install pillow-heif")
    pixels = np.random.default_rng(0).integers(0, 255, (48, 64, 3), dtype=np.uint8)
    file = io.BytesIO()
    pillow_heif.from_pillow(Image.fromarray(pixels)).save(file, quality=90)
    return file.getvalue()


def read(file: io.BytesIO) -> None:
    image = open_image(file, 1e6)
    size, kind = image.size, image.format
    to_rgb(image)
    check_whole(file, kind, size)


@settings(max_examples=settings().max_examples // 2)
@given(data=st.data())
def test_any_damage_is_an_image_or_unreadable(data: st.DataObject) -> None:
    content = bytearray(photo())
    for _ in range(data.draw(st.integers(0, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    file = io.BytesIO(bytes(content))
    with contextlib.suppress(ImageUnreadableError):
        read(file)


@pytest.mark.parametrize("share", [0.0, 0.2, 0.5, 0.9, 0.99])
@pytest.mark.parametrize("tail", ["none", "zeros"])
def test_a_photograph_that_is_cut_off_is_unreadable(share: float, tail: str) -> None:
    whole = photo()
    end = int(share * len(whole))
    file = io.BytesIO(whole[:end] + (bytes(len(whole) - end) if tail == "zeros" else b""))
    with pytest.raises(ImageUnreadableError):
        read(file)
