"""Photographs of an iPhone, with pillow-heif and without it."""

from __future__ import annotations

import io

import pytest
from PIL import Image

from gendataagent.core.errors import ImageUnreadableError
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
