"""The real images that a round makes new ones from."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable
from pathlib import Path

from PIL import Image

from gendataagent.core import files
from gendataagent.core.records import candidate_id
from gendataagent.core.run_folder import RunFolder
from gendataagent.data import LabelledImages

THUMBNAIL_PX = 160
CACHE_BYTES = 256 << 20


class SourceImages:
    """Decodes source images; those decoded last are kept in memory.

    Captioner and generator ask for the same images, the generator once for every rewrite.

    Args:
        max_bytes: of decoded images kept.
    """

    def __init__(
        self, images: LabelledImages, folder: RunFolder, *, max_bytes: int = CACHE_BYTES
    ) -> None:
        self._images, self._folder, self._max_bytes = images, folder, max_bytes
        self._kept: OrderedDict[str, Image.Image] = OrderedDict()
        self._bytes = 0
        self._written: set[Path] = set()

    def reader(self, number: int) -> Callable[[str], Image.Image]:
        """Return a function from source id to image, RGB, for round `number`.

        It also writes a thumbnail of each source, so that the report needs only the run folder.
        """

        def read(source_id: str) -> Image.Image:
            image = self._decode(source_id)
            path = self._thumbnail(number, source_id)
            if path not in self._written:  # what an earlier process left may be damaged
                self._write(path, image)
            return image

        return read

    def complete_thumbnails(self, number: int, source_ids: Iterable[str]) -> None:
        """Write those of round `number` again that an earlier process has written, or lost."""
        for source_id in dict.fromkeys(source_ids):
            path = self._thumbnail(number, source_id)
            if path not in self._written:
                self._write(path, self._decode(source_id))

    def _thumbnail(self, number: int, source_id: str) -> Path:
        name = candidate_id(number, source_id, 0).split("-")[1]
        return self._folder.round(number) / "sources" / f"{name}.png"

    def _write(self, path: Path, image: Image.Image) -> None:
        thumbnail = image.copy()
        thumbnail.thumbnail((THUMBNAIL_PX, THUMBNAIL_PX))
        with files.atomic_writer(path) as stream:
            thumbnail.save(stream, "PNG")
        self._written.add(path)

    def _decode(self, source_id: str) -> Image.Image:
        """Return a copy of the image, which the caller may change."""
        image = self._kept.get(source_id)
        if image is None:
            image = self._images.image(self._images.index_of(source_id))
            self._kept[source_id] = image
            self._bytes += _bytes_of(image)
            while self._bytes > self._max_bytes:
                self._bytes -= _bytes_of(self._kept.popitem(last=False)[1])
        else:
            self._kept.move_to_end(source_id)
        return image.copy()


def _bytes_of(image: Image.Image) -> int:
    return 3 * image.width * image.height
