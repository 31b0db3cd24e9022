"""Images without classes: what a generator was trained on, to be compared with a data set."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from gendataagent.config import DataConfig
from gendataagent.core.errors import DataError
from gendataagent.data.columns import image_column
from gendataagent.data.folder import TABLE_SUFFIX, FolderStore, find_files, posix
from gendataagent.data.listing import TRAIN, Item
from gendataagent.data.near_duplicates import Uint8Array
from gendataagent.data.scan import screen
from gendataagent.data.sets import ImageStore, LabelledImages
from gendataagent.data.tables import TableFile, TableStore

_CLASS = "image"


@dataclass(frozen=True, slots=True, eq=False)
class Corpus:
    """The images that can be read, their thumbnails [N, 16, 16, 3], and how many cannot be."""

    images: LabelledImages
    thumbnails_N: Uint8Array
    refused: int


def load_corpus(
    path: str | Path, config: DataConfig, *, progress: Callable[[int, int], None] | None = None
) -> Corpus:
    """Return all images of a folder (as deep as it goes), or of a parquet file or folder.

    Args:
        config: for image_column and max_megapixels.

    Raises:
        DataError: no image there that can be read.
    """
    store, items = _list(Path(path).expanduser(), config)
    max_pixels = config.max_megapixels * 1e6
    screened = screen(store, items, max_pixels=max_pixels, progress=progress)
    if not screened.items:
        raise DataError(
            f"no image in {path} can be read; allowed are a folder of images, and a parquet "
            "file or folder with a column of images"
        )
    images = LabelledImages(
        class_names=(_CLASS,),
        ids=tuple(item.id for item in screened.items),
        labels=(0,) * len(screened.items),
        rows=tuple(item.row for item in screened.items),
        store=store,
        max_pixels=max_pixels,
    )
    return Corpus(images, screened.thumbnails_N, len(screened.quarantined))


def _list(path: Path, config: DataConfig) -> tuple[ImageStore, list[Item]]:
    if path.is_file() and path.suffix.lower() == TABLE_SUFFIX:
        return _list_tables(path.parent, [path.name], config)
    if not path.is_dir():
        raise DataError(f"{path} is neither a folder nor a parquet file; name one of them")
    found = find_files(path)
    if found.tables and not found.images:
        return _list_tables(path, sorted(found.tables), config)
    files = tuple(sorted(found.images))
    store = FolderStore(str(path), files)
    return store, [Item(row, posix(name), _CLASS, TRAIN) for row, name in enumerate(files)]


def _list_tables(root: Path, names: list[str], config: DataConfig) -> tuple[ImageStore, list[Item]]:
    files = [TableFile(str(root / name), name, TRAIN) for name in names]
    column = image_column(files[0], config.image_column)
    store = TableStore(files, column, str(root))
    rows = sum(file.read([column]).num_rows for file in files)
    return store, [Item(row, store.name(row), _CLASS, TRAIN) for row in range(rows)]
