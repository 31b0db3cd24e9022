"""Labelled images with stable ids, decoded on access."""

from __future__ import annotations

import hashlib
import io
from collections import Counter
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, BinaryIO, Protocol, Self

from PIL import Image

from gendataagent.core.errors import DataError, ImageUnreadableError
from gendataagent.data.decoding.bit_depth import has_deep_samples
from gendataagent.data.decoding.images import decode, open_image, to_rgb
from gendataagent.data.exporting import image_dataset

if TYPE_CHECKING:
    from torch.utils.data import Dataset

    _TorchDataset = Dataset[tuple[Image.Image, int]]
else:
    _TorchDataset = object  # torch asks for no more than __len__ and __getitem__


_CHUNK_BYTES = 1 << 20
_READ_THREADS = 8


def content_hash(stream: BinaryIO) -> bytes:
    """Return a hash of what is left in a stream: 16 bytes of BLAKE2b."""
    digest = hashlib.blake2b(digest_size=16)
    while chunk := stream.read(_CHUNK_BYTES):
        digest.update(chunk)
    return digest.digest()


class ImageStore(Protocol):
    """Where encoded images are stored, addressed by row. Picklable, readable from any thread."""

    def open(self, row: int) -> BinaryIO:
        """Return the encoded image; raise OSError or `ImageUnreadableError` if there is none."""
        ...

    def name(self, row: int) -> str:
        """Return where a user finds the image: relative file path, or file and row."""
        ...


@dataclass(frozen=True, slots=True)
class MemoryStore:
    """Encoded images held in memory."""

    encoded: tuple[bytes, ...]

    def open(self, row: int) -> BinaryIO:
        return io.BytesIO(self.encoded[row])

    def name(self, row: int) -> str:
        return f"image {row}"


@dataclass(frozen=True, eq=False, kw_only=True)
class LabelledImages(_TorchDataset):
    """An immutable sequence of labelled images with stable ids: one split of a data set.

    The concrete class behind the protocol `data.pixels.ImageSet`. Picklable and cheap to send to
    workers: it holds where the images are stored, not their pixels. Also a map-style torch data
    set, whose items are (PIL image, label).

    Args:
        class_names: in label order; the same in all splits.
        ids: unique over all splits of a data set, ASCII or Unicode in NFC, stable between runs.
        labels: index into `class_names`, one per id.
        rows: position of each image in `store`.
        max_pixels: larger images are refused, as at load time.
        bits: real depth of the images with 16 bits a sample, shared by all splits; 0 = none known.
        contents: hash of each image, if known; see `content_hashes`.
    """

    class_names: tuple[str, ...]
    ids: tuple[str, ...]
    labels: tuple[int, ...]
    rows: tuple[int, ...]
    store: ImageStore
    max_pixels: float = float("inf")
    bits: int = 0
    contents: tuple[str, ...] | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if not len(self.ids) == len(self.labels) == len(self.rows):
            raise DataError(
                "ids, labels and images must be equal in number, got "
                f"{len(self.ids)}, {len(self.labels)} and {len(self.rows)}"
            )
        if len(set(self.ids)) < len(self.ids):
            raise DataError("ids must be unique, got some twice; give each image an id of its own")
        if any(not 0 <= label < len(self.class_names) for label in self.labels):
            raise DataError(
                f"labels must be in 0..{len(self.class_names) - 1} (class_names has "
                f"{len(self.class_names)}), got {min(self.labels)}..{max(self.labels)}"
            )

    @classmethod
    def from_images(
        cls,
        images: Sequence[Image.Image],
        labels: Sequence[int],
        *,
        class_names: Sequence[str],
        ids: Sequence[str],
    ) -> Self:
        """Return a set of images kept in memory as PNG; any mode that PNG can store."""
        encoded = []
        for image in images:
            buffer = io.BytesIO()
            image.save(buffer, format="PNG")
            encoded.append(buffer.getvalue())
        return cls(
            class_names=tuple(class_names),
            ids=tuple(ids),
            labels=tuple(int(label) for label in labels),
            rows=tuple(range(len(encoded))),
            store=MemoryStore(tuple(encoded)),
        )

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: int) -> tuple[Image.Image, int]:
        """Return image and label at `index`; raise as `image`."""
        return self.image(index), self.labels[index]

    def image(self, index: int) -> Image.Image:
        """Return the image at `index` in [-len, len): RGB, 8 bit, upright, original size.

        Raises:
            IndexError: no such position.
            ImageUnreadableError: it was moved, changed or damaged after loading.
        """
        row, source_id = self.rows[index], self.ids[index]
        try:
            with self.store.open(row) as stream:
                return to_rgb(open_image(stream, self.max_pixels), self.bits)
        except (OSError, ImageUnreadableError) as error:
            raise ImageUnreadableError(
                f"cannot read image {source_id} ({self.store.name(row)}): {error}. It was "
                "readable when the data was loaded; restore it, or load the data again"
            ) from error

    def encoded(self, index: int) -> bytes:
        """Return the image at `index` as it is stored; raise as `image`."""
        try:
            with self.store.open(self.rows[index]) as stream:
                return stream.read()
        except OSError as error:
            raise ImageUnreadableError(f"cannot read image {self.ids[index]}: {error}") from error

    def index_of(self, source_id: str) -> int:
        """Return the position of an id; raise `DataError` if it is not in this set."""
        try:
            return self._positions[source_id]
        except KeyError:
            raise DataError(
                f"no image with the id {source_id!r} among the {len(self)} of this set"
            ) from None

    def images_per_class(self) -> tuple[int, ...]:
        """Return the number of images of each class, in label order."""
        counts = Counter(self.labels)
        return tuple(counts[label] for label in range(len(self.class_names)))

    def subset(self, indices: Iterable[int]) -> LabelledImages:
        """Return the images at `indices`, in that order, with the same classes and store."""
        chosen = tuple(indices)
        return LabelledImages(
            class_names=self.class_names,
            ids=tuple(self.ids[i] for i in chosen),
            labels=tuple(self.labels[i] for i in chosen),
            rows=tuple(self.rows[i] for i in chosen),
            store=self.store,
            max_pixels=self.max_pixels,
            bits=self.bits,
            contents=None if self.contents is None else tuple(self.contents[i] for i in chosen),
        )

    def content_hashes(self) -> tuple[str, ...]:
        """Return a hash of each image's encoded bytes, in order; reads them all if unknown.

        Raises:
            ImageUnreadableError: an image was moved or removed after loading.
        """
        if self.contents is not None:
            return self.contents
        with ThreadPoolExecutor(_READ_THREADS) as threads:
            return tuple(threads.map(self._content_hash, range(len(self))))

    def _content_hash(self, index: int) -> str:
        try:
            open_content = getattr(self.store, "open_content", self.store.open)
            with open_content(self.rows[index]) as stream:
                return content_hash(stream).hex()
        except OSError as error:
            raise ImageUnreadableError(f"cannot read image {self.ids[index]}: {error}") from error

    def to_datasets(self) -> Any:
        """Return a `datasets.Dataset` with the columns id, image and label, a ClassLabel.

        Image files of a folder stay where they are; other images are held in memory, encoded.
        """
        return image_dataset(
            images=[self._encoded(row) for row in self.rows],
            labels=self.labels,
            class_names=self.class_names,
            columns={"id": self.ids},
            types={"id": "string"},
        )

    def _encoded(self, row: int) -> dict[str, Any]:
        path = getattr(self.store, "path", None)
        if path is not None:
            return {"path": path(row), "bytes": None}
        with self.store.open(row) as stream:
            return {"path": None, "bytes": stream.read()}

    @cached_property
    def _positions(self) -> dict[str, int]:
        return {source_id: index for index, source_id in enumerate(self.ids)}


def shared_bits(images: LabelledImages, *, sample: int = 200) -> int:
    """Return the real depth of the images with 16 bits a sample; 0 = there are none.

    If none of `sample` images, evenly spaced, has so many by its header, none is decoded.
    """
    if not any(_has_deep_samples(images, index) for index in _evenly(len(images), sample)):
        return 0
    return max(_bits_of(images, index) for index in range(len(images)))


def _evenly(count: int, sample: int) -> list[int]:
    taken = min(sample, count)
    return [i * count // taken for i in range(taken)]


def _has_deep_samples(images: LabelledImages, index: int) -> bool:
    try:
        with images.store.open(images.rows[index]) as stream:
            return has_deep_samples(open_image(stream, images.max_pixels))
    except (OSError, ImageUnreadableError):  # reported where the image is needed
        return False


def _bits_of(images: LabelledImages, index: int) -> int:
    try:
        with images.store.open(images.rows[index]) as stream:
            return decode(open_image(stream, images.max_pixels)).bits
    except (OSError, ImageUnreadableError):
        return 0


def median_side_px(images: LabelledImages, *, sample: int = 200) -> int:
    """Return the median length in px of the shorter side, from the headers alone.

    At most `sample` images are read, evenly spaced, so that the result is reproducible.

    Raises:
        DataError: the set is empty.
    """
    count = min(sample, len(images))
    if count < 1:
        raise DataError("an empty set of images has no median size")
    sides = []
    for index in _evenly(len(images), sample):
        try:
            with images.store.open(images.rows[index]) as stream:
                sides.append(min(open_image(stream, images.max_pixels).size))
        except OSError as error:
            raise ImageUnreadableError(f"cannot read image {images.ids[index]}: {error}") from error
    return sorted(sides)[count // 2]
