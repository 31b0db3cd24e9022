"""10, 12 and 14 bits in files of 16 keep their brightness, in colour and grey."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from gendataagent.config import DataConfig
from gendataagent.core.errors import ImageUnreadableError
from gendataagent.data import ImageSplits, load_data, scan
from gendataagent.data.decoding.images import decode, open_image
from gendataagent.data.items import TupleItems
from gendataagent.data.loading import load_to_measure
from gendataagent.data.train_set import open_train_set

Samples = npt.NDArray[np.integer]


def png(samples: Samples) -> bytes:
    """Return a 16-bit PNG of samples [H, W] or [H, W, C]."""
    kind = {1: 0, 2: 4, 3: 2, 4: 6}[samples.shape[2] if samples.ndim == 3 else 1]

    def chunk(name: bytes, body: bytes) -> bytes:
        code = zlib.crc32(name + body)
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", code)

    height, width = samples.shape[:2]
    header = struct.pack(">IIBBBBB", width, height, 16, kind, 0, 0, 0)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in samples)
    chunks = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunks


def tiff(samples: Samples, order: str) -> bytes:
    """Return an uncompressed 16-bit RGB TIFF of samples [H, W, 3]."""
    height, width, _ = samples.shape
    data = samples.astype(order + "u2").tobytes()
    start = 8 + 2 + 12 * 9 + 4
    entries = [(256, 4, 1, width), (257, 4, 1, height), (258, 3, 3, start), (259, 3, 1, 1),
               (262, 3, 1, 2), (273, 4, 1, start + 6), (277, 3, 1, 3), (278, 4, 1, height),
               (279, 4, 1, len(data))]  # fmt: skip
    out = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "IH", 8, len(entries))
    for tag, kind, count, value in entries:
        out += struct.pack(order + "HHI", tag, kind, count)
        short = kind == 3 and count == 1
        out += struct.pack(order + "HH", value, 0) if short else struct.pack(order + "I", value)
    return out + struct.pack(order + "I", 0) + struct.pack(order + "HHH", 16, 16, 16) + data


def samples(highest: int, channels: int = 3, size: int = 20) -> Samples:
    made = np.random.default_rng(0).integers(0, highest + 1, (size, size, channels))
    made[0, 0] = highest
    return made


@pytest.mark.parametrize("bits", [8, 10, 12, 14, 16])
@pytest.mark.parametrize("kind", ["png", "grey", "alpha", "tiff<", "tiff>"])
def test_the_real_range_becomes_8_bits(bits: int, kind: str) -> None:
    whole = samples((1 << bits) - 1)
    if kind == "grey":
        content = png(whole[..., 0])
        expected = np.repeat(whole[..., :1], 3, axis=2)
    elif kind == "alpha":
        content = png(np.dstack([whole, np.full(whole.shape[:2], 65535)]))
        expected = whole
    else:
        content = png(whole) if kind == "png" else tiff(whole, kind[-1])
        expected = whole
    image, found = decode(open_image(io.BytesIO(content), 1e9))
    assert found == bits
    assert (np.asarray(image) == np.rint(expected * 255 / ((1 << bits) - 1))).all()


def test_grey_with_alpha_is_not_black() -> None:
    whole = np.dstack([samples(4095, 1), np.full((20, 20), 65535)])
    image, bits = decode(open_image(io.BytesIO(png(whole)), 1e9))
    assert bits == 12
    assert np.abs(np.asarray(image)[..., 0] - whole[..., 0] * 255 / 4095).max() < 17


def test_8_bit_images_have_no_depth_of_their_own() -> None:
    stream = io.BytesIO()
    Image.new("RGB", (9, 9), (3, 200, 1)).save(stream, "PNG")
    image, bits = decode(open_image(io.BytesIO(stream.getvalue()), 1e9))
    assert (image.getpixel((0, 0)), bits) == ((3, 200, 1), 0)


def write_set(root: Path, highest: tuple[int, ...]) -> None:
    for number, value in enumerate(highest):
        path = root / ("cat", "dog")[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(png(np.full((8, 8, 3), value)))


def brightness(data: ImageSplits) -> dict[str, int]:
    return {
        id_: images.image(index).getpixel((0, 0))[0]  # type: ignore[index]
        for images in data.by_name().values()
        for index, id_ in enumerate(images.ids)
    }


@pytest.mark.parametrize("cached", [False, True])
def test_a_set_has_one_depth_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cached: bool
) -> None:
    monkeypatch.setenv("GENDATAAGENT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(scan, "CACHE_FROM_IMAGES", 1 if cached else 10**9)
    write_set(tmp_path / "data", (4095, 300, 2000, 4000, 1000, 100))
    for _ in range(2):
        data = load_data(str(tmp_path / "data"))
        assert brightness(data)["cat/0.png"] == 255
        assert brightness(data)["dog/1.png"] == round(300 * 255 / 4095)
        assert brightness(data)["dog/5.png"] == 6
        assert data.notes[0] == (
            "6 images have 16 bits a sample, of which at most 12 are used; all are scaled to 8 "
            "bits from 12."
        )
        assert brightness_of_subset(data) == brightness(data)
        assert data.notes[0] in load_to_measure(DataConfig(path=str(tmp_path / "data"))).notes


def brightness_of_subset(data: ImageSplits) -> dict[str, int]:
    parts = [images.subset(range(len(images))) for images in data.by_name().values()]
    return {
        id_: part.image(index).getpixel((0, 0))[0]  # type: ignore[index]
        for part in parts
        for index, id_ in enumerate(part.ids)
    }


def test_12_bits_with_a_hot_pixel_are_nearly_black_and_said_to_be(tmp_path: Path) -> None:
    for number in range(6):
        path = tmp_path / ("cat", "dog")[number % 2] / f"{number}.png"
        path.parent.mkdir(exist_ok=True)
        image = samples(4095, size=70)
        image[number] = image[number] // 2
        image[40, 40] = 65535
        path.write_bytes(png(image))
    (note,) = [note for note in load_data(str(tmp_path)).notes if "16 bits" in note]
    assert "6 images have 16 bits a sample and are nearly black, but for single pixels" in note


def test_full_16_bits_need_no_note(tmp_path: Path) -> None:
    write_set(tmp_path, (65535, 300, 2000, 4000, 1000, 100))
    data = load_data(str(tmp_path))
    assert not [note for note in data.notes if "bits" in note]
    assert brightness(data)["dog/3.png"] == round(4000 / 257)


def test_grey_with_alpha_of_10_bits_is_refused_for_its_high_bytes_are_empty() -> None:
    whole = np.dstack([samples(1023, 1), np.full((20, 20), 65535)])
    with pytest.raises(ImageUnreadableError, match="high bytes"):
        decode(open_image(io.BytesIO(png(whole)), 1e9))


class Deep:
    """A data set of a user's own, of 12-bit images; the first is dark."""

    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> tuple[Image.Image, int]:
        values = np.full((8, 8), (900, 4095)[index % 2], dtype=np.uint16)
        return Image.fromarray(values), index % 2


def test_a_set_in_memory_has_one_depth_too() -> None:
    found = open_train_set(Deep(), DataConfig(), seed=0)
    assert [np.asarray(found.images.image(i))[0, 0, 0] for i in range(2)] == [56, 255]
    shown, _ = found.form.item(Image.new("RGB", (8, 8), "white"), 0)
    assert (shown.mode, shown.getpixel((0, 0))) == ("I;16", 4095)


def test_rows_have_one_depth_too() -> None:
    import datasets

    images = [png(np.full((8, 8), value)) for value in (900, 4095)]
    rows = datasets.Dataset.from_dict(
        {"image": [{"bytes": image, "path": None} for image in images], "label": [0, 1]},
        features=datasets.Features(
            {"image": datasets.Image(), "label": datasets.ClassLabel(names=["cat", "dog"])}
        ),
    )
    found = open_train_set(rows, DataConfig(), seed=0).images
    assert [np.asarray(found.image(i))[0, 0, 0] for i in range(2)] == [56, 255]


@pytest.mark.parametrize("mode", ["I;16", "I;16B", "I", "F"])
def test_images_are_shown_in_modes_of_more_than_8_bits(mode: str) -> None:
    shown, _ = TupleItems(mode=mode, white=1023).item(Image.new("RGB", (5, 4), "white"), 0)
    assert (shown.mode, shown.size) == (mode, (5, 4))
    assert shown.getpixel((4, 3)) == pytest.approx(1023)
