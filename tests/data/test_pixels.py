from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from PIL import Image

from gendataagent.core.errors import DataError
from gendataagent.data.pixels import Pixels, square_tensor


class Images:
    """A labelled set of images of many shapes."""

    def __init__(self, count: int) -> None:
        random = np.random.default_rng(0)
        self.images = [
            Image.fromarray(
                random.integers(0, 256, (8 + index % 5, 8 + index % 3, 3), dtype=np.uint8)
            )
            for index in range(count)
        ]
        self.ids: Sequence[str] = [f"id{index}" for index in range(count)]
        self.labels: Sequence[int] = [index % 2 for index in range(count)]

    def __len__(self) -> int:
        return len(self.images)

    def image(self, index: int) -> Image.Image:
        return self.images[index]


def test_an_image_of_the_right_size_is_unchanged() -> None:
    pixels_883 = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    result_388 = square_tensor(Image.fromarray(pixels_883), 8)
    assert np.array_equal(result_388.permute(1, 2, 0).numpy(), pixels_883)


@pytest.mark.parametrize("wide", [True, False])
def test_the_centre_square_is_taken(wide: bool) -> None:
    stripes = np.zeros((40, 120, 3), dtype=np.uint8)
    stripes[:, 40:80] = (200, 100, 50)
    image = Image.fromarray(stripes if wide else stripes.transpose(1, 0, 2).copy())
    # the bicubic filter sees the neighbours of the square, as when cropping after resizing
    inside_3SS = square_tensor(image, 10)[:, 2:-2, 2:-2]
    assert (inside_3SS == torch.tensor([200, 100, 50])[:, None, None]).all()


@pytest.mark.parametrize("shape", [(9, 3000), (3000, 9)])
def test_of_a_strip_only_the_middle_is_enlarged(shape: tuple[int, int]) -> None:
    pixels = np.zeros((*shape, 3), dtype=np.uint8)
    pixels[shape[0] // 2 - 4 : shape[0] // 2 + 5, shape[1] // 2 - 4 : shape[1] // 2 + 5] = 200
    result_3SS = square_tensor(Image.fromarray(pixels), 900)[:, 250:-250, 250:-250]
    assert (result_3SS == 200).all()


def test_shrinking_is_antialiased() -> None:
    checkers = (np.indices((64, 64)).sum(axis=0) % 2 * 255).astype(np.uint8)
    result_3SS = square_tensor(Image.fromarray(checkers).convert("RGB"), 8)
    assert ((result_3SS > 117) & (result_3SS < 138)).all()


def test_other_modes_become_rgb_but_16_bit_is_refused() -> None:
    grey = Image.new("L", (8, 8), 77)
    assert (square_tensor(grey, 8) == 77).all()
    with pytest.raises(DataError, match="more than 8 bits"):
        square_tensor(Image.new("I;16", (8, 8), 30000), 8)


def test_decoding_per_batch_equals_the_cache() -> None:
    images = Images(9)
    progress: list[tuple[int, int]] = []
    cached = Pixels.from_images(images, 6, progress=lambda *done: progress.append(done))
    decoded = Pixels.from_images(images, 6, cache_bytes=0)
    indices = [7, 0, 7, 3]
    assert torch.equal(cached.batch(indices), decoded.batch(indices))
    assert cached.labels.tolist() == decoded.labels.tolist() == list(images.labels)
    assert cached.ids == tuple(images.ids)
    assert progress == [(done, 9) for done in range(1, 10)]


@pytest.mark.parametrize("cache_bytes", [0, 1 << 20])
def test_stream_yields_every_batch_in_order(cache_bytes: int) -> None:
    pixels = Pixels.from_images(Images(9), 6, cache_bytes=cache_bytes)
    batches = list(torch.arange(9).flip(0).split(4))
    streamed = list(pixels.stream(batches, crop_px=4))
    assert [indices.tolist() for indices, _ in streamed] == [b.tolist() for b in batches]
    for indices, images in streamed:
        assert torch.equal(images, pixels.batch(indices)[..., 1:5, 1:5])


def test_an_error_while_reading_ahead_reaches_the_caller() -> None:
    images = Images(4)
    images.images[3] = Image.new("I;16", (8, 8))
    pixels = Pixels.from_images(images, 6, cache_bytes=0)
    with pytest.raises(DataError):
        list(pixels.stream([torch.tensor([0]), torch.tensor([3])]))


def test_concat_reads_each_image_from_its_part() -> None:
    images = Images(6)
    first = Pixels.from_images(images, 6)
    second = Pixels.from_pil(images.images[:2], [1, 1], ids=["a", "b"], size_px=6)
    both = Pixels.concat([first, second])
    assert len(both) == 8
    assert both.ids == (*images.ids, "a", "b")
    assert both.labels.tolist() == [0, 1, 0, 1, 0, 1, 1, 1]
    batch = both.batch([7, 2, 6, 5])
    expected = torch.stack([second.batch([1])[0], *first.batch([2]), *second.batch([0])])
    assert torch.equal(batch[:3], expected)
    assert torch.equal(batch[3], first.batch([5])[0])


def test_concat_of_different_sizes_is_refused() -> None:
    images = Images(2)
    with pytest.raises(DataError, match=r"\[4, 6\]"):
        Pixels.concat([Pixels.from_images(images, 6), Pixels.from_images(images, 4)])


def test_ids_and_labels_must_match() -> None:
    with pytest.raises(DataError, match="1 ids but 2 labels"):
        Pixels(torch.zeros((2, 3, 4, 4)).__getitem__, [0, 1], ids=["a"], size_px=4)
    with pytest.raises(DataError, match="1 images but 2 labels"):
        Pixels.from_pil([Image.new("RGB", (4, 4))], [0, 1], ids=["a", "b"], size_px=4)


def test_a_crop_larger_than_the_image_is_refused() -> None:
    with pytest.raises(DataError, match="wants 9 px"):
        Pixels.from_images(Images(2), 6).batch([0], crop_px=9)
