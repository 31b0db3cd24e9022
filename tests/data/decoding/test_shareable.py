"""Files for other people show what the run saw, and tell nothing else."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageCms, ImageOps

from gendataagent.data.decoding.images import open_image, to_rgb
from gendataagent.data.decoding.shareable import as_jpeg, shareable

SECRET = "47.3769 N, 8.5417 E"


def drawn(mode: str = "RGB", side: int = 40) -> Image.Image:
    pixels = np.random.default_rng(0).integers(0, 256, (side, side + 17, 3), dtype=np.uint8)
    return Image.fromarray(pixels).convert(mode)


def seen(content: bytes) -> Image.Image:
    """What a run sees of an image file."""
    return to_rgb(open_image(io.BytesIO(content), float("inf")))


def by_pillow(content: bytes) -> Image.Image:
    """What other software sees."""
    return ImageOps.exif_transpose(Image.open(io.BytesIO(content))).convert("RGB")


def exif_of(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112], exif[0x010E] = orientation, SECRET
    return exif


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_jpeg_keeps_its_compressed_pixels_and_orientation(
    orientation: int, progressive: bool
) -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    original = encoded(
        drawn(), "JPEG", exif=exif_of(orientation), comment=SECRET, icc_profile=profile,
        progressive=progressive,
    )  # fmt: skip
    preview = b"a second image with " + SECRET.encode()
    found = shareable(original + preview, seen(original))
    assert found.suffix == ".jpg"
    assert SECRET.encode() not in found.content
    with Image.open(io.BytesIO(found.content)) as image:
        assert dict(image.getexif()) == ({0x0112: orientation} if orientation > 1 else {})
        assert image.info["icc_profile"] == profile
        assert "comment" not in image.info
    assert by_pillow(found.content).tobytes() == by_pillow(original).tobytes()
    assert original[original.index(b"\xff\xda") :] == found.content[
        found.content.index(b"\xff\xda") :
    ]  # fmt: skip


def test_metadata_between_the_scans_goes_too() -> None:
    original = encoded(drawn(), "JPEG", progressive=True)
    second = original.index(b"\xff\xda", original.index(b"\xff\xda") + 2)
    comment = b"\xff\xfe" + (len(SECRET) + 2).to_bytes(2, "big") + SECRET.encode()
    changed = original[:second] + comment + original[second:]
    found = shareable(changed, seen(changed))
    assert (found.suffix, SECRET.encode() in found.content) == (".jpg", False)
    assert by_pillow(found.content).tobytes() == by_pillow(original).tobytes()


def test_a_second_image_inside_goes_too() -> None:
    buffer = io.BytesIO()
    drawn().save(
        buffer, "MPO", save_all=True, append_images=[drawn(side=30)], exif=exif_of(1)
    )  # fmt: skip
    found = shareable(buffer.getvalue(), seen(encoded(drawn(), "JPEG")))
    assert SECRET.encode() not in found.content
    assert Image.open(io.BytesIO(found.content)).format == "JPEG"
    assert len(found.content) < len(buffer.getvalue()) * 0.8


@pytest.mark.parametrize(
    ("mode", "kind"),
    [("RGB", "PNG"), ("RGBA", "PNG"), ("P", "GIF"), ("L", "PNG"), ("RGB", "WEBP"), ("RGB", "TIFF"),
     ("CMYK", "JPEG"), ("RGB", "BMP")],
)  # fmt: skip
def test_everything_else_becomes_a_png_of_the_pixels_that_were_seen(mode: str, kind: str) -> None:
    image = drawn(mode)
    if mode == "RGBA":
        image.putalpha(128)
    original = encoded(image, kind)
    found = shareable(original, seen(original))
    assert found.suffix == ".png"
    assert by_pillow(found.content).tobytes() == seen(original).tobytes()


def test_a_grey_jpeg_stays_one() -> None:
    original = encoded(drawn("L"), "JPEG", exif=exif_of(1))
    found = shareable(original, seen(original))
    assert (found.suffix, Image.open(io.BytesIO(found.content)).mode) == (".jpg", "L")


@pytest.mark.parametrize("cut", [2, 3, 10, 300, -2, -200])
def test_a_jpeg_that_cannot_be_taken_apart_is_encoded_anew(cut: int) -> None:
    """What a run has seen of a damaged file is exported, whatever is left of the file."""
    original = encoded(drawn(), "JPEG", exif=exif_of(1))
    found = shareable(original[:cut], drawn())
    assert by_pillow(found.content).size == drawn().size
    assert SECRET.encode() not in found.content


def test_a_long_comment_fits() -> None:
    found = as_jpeg(drawn(), "ä" * 70_000)
    assert len(Image.open(io.BytesIO(found.content)).info["comment"]) == 65_000
