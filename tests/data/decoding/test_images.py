"""Every kind of image file: what it is decoded to, or why it is refused."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gendataagent.core.errors import ImageUnreadableError
from gendataagent.data import open_image, to_rgb
from gendataagent.data.decoding.images import centre_square

NO_LIMIT = float("inf")


def encode(image: Image.Image, file_format: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format=file_format, **options)
    return buffer.getvalue()


def decode(content: bytes, max_pixels: float = NO_LIMIT) -> Image.Image:
    image = to_rgb(open_image(io.BytesIO(content), max_pixels))
    assert image.mode == "RGB"
    return image


def noise(width: int = 64, height: int = 64) -> Image.Image:
    values = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(values)


def png_header(width: int, height: int) -> bytes:
    """A PNG that claims a size and holds no pixels."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = [
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        for kind, body in ((b"IHDR", header), (b"IDAT", b"x"))
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def test_16_bit_grey_is_scaled_to_8_bit() -> None:
    values = np.array([[0, 257, 32768, 65535]], dtype=np.uint16)
    image = decode(encode(Image.fromarray(values)))
    assert [image.getpixel((x, 0)) for x in range(4)] == [
        (0, 0, 0), (1, 1, 1), (128, 128, 128), (255, 255, 255)
    ]  # fmt: skip


def test_32_bit_integers_are_taken_as_16_bit_or_refused() -> None:
    whole = Image.fromarray(np.array([[0, 65535]], dtype=np.int32))
    assert decode(encode(whole, "TIFF")).tobytes() == bytes([0, 0, 0, 255, 255, 255])
    with pytest.raises(ImageUnreadableError, match="no known range"):
        decode(encode(Image.fromarray(np.array([[0, 65536]], dtype=np.int32)), "TIFF"))


@pytest.mark.parametrize(("values", "grey"), [((0.0, 1.0), (0, 255)), ((0.0, 200.0), (0, 200))])
def test_floating_point_tiff(values: tuple[float, float], grey: tuple[int, int]) -> None:
    image = decode(encode(Image.fromarray(np.array([values], dtype=np.float32)), "TIFF"))
    assert [image.getpixel((x, 0)) for x in (0, 1)] == [(g, g, g) for g in grey]


def test_floating_point_tiff_with_nan_is_refused() -> None:
    values = np.array([[0.5, np.nan]], dtype=np.float32)
    with pytest.raises(ImageUnreadableError, match="not finite"):
        decode(encode(Image.fromarray(values), "TIFF"))


def test_cmyk_jpeg() -> None:
    red = Image.new("CMYK", (16, 16), (0, 255, 255, 0))
    r, g, b = np.asarray(decode(encode(red, "JPEG", quality=95)))[8, 8]
    assert r > 250
    assert g < 5
    assert b < 5


def test_rgba_is_composited_on_white() -> None:
    image = Image.new("RGBA", (2, 1), (255, 0, 0, 0))
    image.putpixel((1, 0), (0, 0, 0, 128))
    assert decode(encode(image)).tobytes() == bytes([255, 255, 255, 127, 127, 127])


def test_la_is_composited_on_white() -> None:
    assert decode(encode(Image.new("LA", (1, 1), (0, 0)))).getpixel((0, 0)) == (255, 255, 255)


def test_palette_with_transparency_is_composited_on_white() -> None:
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 200, 0, 0])
    image.putpixel((1, 0), 1)
    assert decode(encode(image, transparency=0)).tobytes() == bytes([255, 255, 255, 200, 0, 0])


def test_opaque_palette_and_bilevel() -> None:
    palette = Image.new("P", (1, 1))
    palette.putpalette([10, 20, 30])
    assert decode(encode(palette)).getpixel((0, 0)) == (10, 20, 30)
    assert decode(encode(Image.new("1", (1, 1), 1))).getpixel((0, 0)) == (255, 255, 255)


def test_animation_gives_its_first_frame() -> None:
    frames = [Image.new("RGB", (4, 4), colour) for colour in ("red", "blue")]
    gif = encode(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert decode(gif).getpixel((0, 0)) == (255, 0, 0)


# Where a white corner pixel at the stored (0, 0) of a 3 x 2 image belongs once upright.
UPRIGHT = {
    1: (0, 0), 2: (2, 0), 3: (2, 1), 4: (0, 1), 5: (0, 0), 6: (1, 0), 7: (1, 2), 8: (0, 2),
}  # fmt: skip


@pytest.mark.parametrize("file_format", ["PNG", "TIFF"])
@pytest.mark.parametrize(("orientation", "corner"), UPRIGHT.items())
def test_exif_rotation(orientation: int, corner: tuple[int, int], file_format: str) -> None:
    image = Image.new("RGB", (3, 2))
    image.putpixel((0, 0), (255, 255, 255))
    exif = Image.Exif()
    exif[0x0112] = orientation
    upright = decode(encode(image, file_format, exif=exif))
    assert upright.size == ((2, 3) if orientation >= 5 else (3, 2))
    white = np.argwhere(np.asarray(upright)[:, :, 0] == 255)
    assert [(int(x), int(y)) for y, x in white] == [corner]
    assert "exif" not in upright.info
    assert decode(encode(upright)).tobytes() == upright.tobytes()


def test_broken_exif_is_ignored() -> None:
    broken = encode(Image.new("RGB", (4, 2), "red"), exif=b"Exif\x00\x00nonsense")
    assert decode(broken).size == (4, 2)


@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("share", [0.3, 0.9])
def test_truncated_jpeg_is_refused_although_verify_passes_it(
    share: float, progressive: bool
) -> None:
    whole = encode(noise(), "JPEG", progressive=progressive)
    cut = whole[: int(len(whole) * share)]
    Image.open(io.BytesIO(cut)).verify()
    with pytest.raises(ImageUnreadableError, match="truncated"):
        decode(cut)


@pytest.mark.parametrize("file_format", ["PNG", "WEBP", "GIF", "TIFF", "BMP", "AVIF"])
def test_truncated_files_of_other_formats_are_refused(file_format: str) -> None:
    whole = encode(noise(), file_format)
    with pytest.raises(ImageUnreadableError):
        decode(whole[: len(whole) // 2])


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "empty"),
        (b"not an image at all", "not an image"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n", "not an image"),
        (b"\xff\xd8\xff", "not an image"),
    ],
)
def test_files_that_are_not_images_are_refused_with_a_reason(content: bytes, reason: str) -> None:
    with pytest.raises(ImageUnreadableError, match=reason):
        decode(content)


def test_large_images_are_refused_by_their_header() -> None:
    with pytest.raises(ImageUnreadableError, match=r"10000 x 5000 px is 50 megapixels, .* 49"):
        decode(png_header(10_000, 5_000), max_pixels=49e6)


def test_the_limit_itself_is_allowed() -> None:
    assert decode(encode(Image.new("RGB", (10, 10))), max_pixels=100).size == (10, 10)


def test_bombs_are_refused_and_pillow_s_limit_is_unchanged() -> None:
    before = Image.MAX_IMAGE_PIXELS
    with pytest.raises(ImageUnreadableError, match="179 megapixels"):
        decode(png_header(60_000, 60_000))
    assert before == Image.MAX_IMAGE_PIXELS


def test_a_file_with_the_wrong_suffix_is_read_by_its_content(tmp_path: Path) -> None:
    file = tmp_path / "image.jpg"
    file.write_bytes(encode(Image.new("RGB", (1, 1), "lime")))
    with open(file, "rb") as stream:
        assert to_rgb(open_image(stream, NO_LIMIT)).getpixel((0, 0)) == (0, 255, 0)


@pytest.mark.parametrize(
    ("size", "on_grid"), [((33, 32), (0, 0)), ((32, 37), (0, 2)), ((41, 32), (4, 0))]
)
def test_a_square_on_the_pixel_grid_is_cut_out_unchanged(
    size: tuple[int, int], on_grid: tuple[int, int]
) -> None:
    image = noise(*size)
    left, top = on_grid
    cropped = image.crop((left, top, left + 32, top + 32))
    assert centre_square(image, 32, on_pixel_grid=True).tobytes() == cropped.tobytes()


@pytest.mark.parametrize(
    ("size", "resized", "corner"),
    [((100, 75), (42, 32), (5, 0)), ((33, 47), (32, 45), (0, 6)), ((20, 320), (32, 512), (0, 240))],
)
def test_the_shorter_side_is_resized_and_the_centre_cropped(
    size: tuple[int, int], resized: tuple[int, int], corner: tuple[int, int]
) -> None:
    image = noise(*size)
    left, top = corner
    whole = image.resize(resized, Image.Resampling.BICUBIC)
    expected = whole.crop((left, top, left + 32, top + 32))
    assert centre_square(image, 32).tobytes() == expected.tobytes()
    if resized != (32, 512):  # 1.6 pixels a pixel in both directions: the grid is the same
        assert centre_square(image, 32, on_pixel_grid=True).tobytes() != expected.tobytes()


def test_a_square_of_the_right_size_is_returned_unchanged() -> None:
    image = noise(16, 16)
    for on_pixel_grid in (True, False):
        assert centre_square(image, 16, on_pixel_grid=on_pixel_grid) is image
