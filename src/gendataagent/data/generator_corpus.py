"""The images a generator was trained on, without classes, for the leakage audit."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from gendataagent.config import DataConfig
from gendataagent.core.errors import DataError
from gendataagent.core.files import expand
from gendataagent.core.progress import OnProgress
from gendataagent.data.duplicates.sketches import Sketches
from gendataagent.data.formats.folder import FolderStore
from gendataagent.data.formats.image_paths import ImagePaths
from gendataagent.data.formats.table_index import image_column
from gendataagent.data.formats.tables import TableFile, TableStore
from gendataagent.data.formats.walk import TABLE_SUFFIX, find_files, posix_path
from gendataagent.data.index import TRAIN, Item
from gendataagent.data.scan import scan_images
from gendataagent.data.sets import ImageStore, LabelledImages

_CLASS = "image"
_GIVE = "give a folder of images, or a parquet file or folder with an image column"


@dataclass(frozen=True, slots=True, eq=False)
class GeneratorCorpus:
    """The readable images, their sketches, and the number of unreadable ones."""

    images: LabelledImages
    sketches_N: Sketches
    unreadable: int


def check_generator_corpus(path: str | Path, config: DataConfig) -> None:
    """Raise `DataError` for every fault of such images that shows without decoding them all.

    Args:
        config: as `load_generator_corpus`.
    """
    store, items = _index(expand(path), config)
    if not items:
        raise DataError(f"there is no image in {path}; {_GIVE}")
    max_pixels = config.max_megapixels * 1e6
    if not any(scan_images(store, [item], max_pixels=max_pixels).items for item in items):
        raise DataError(_unreadable(path))


def corpus_files(path: str | Path, config: DataConfig) -> list[tuple[str, Path]]:
    """Return the files that hold such images, by their names in it; [] if there is nothing there.

    Images that a table names by path are among them.

    Raises:
        DataError: a table is damaged, or names images elsewhere.
    """
    root = expand(path)
    if root.is_dir():
        found = find_files(root)
        names = sorted(found.images or found.tables)
        files = [(posix_path(name), root / name) for name in names]
        if found.images:
            return files
    elif root.is_file():
        files = [(root.name, root)]
    else:
        return []
    store, _ = _index(root, config)
    return [*files, *(store.named_files() if isinstance(store, TableStore) else ())]


def load_generator_corpus(
    path: str | Path, config: DataConfig, *, progress: OnProgress | None = None
) -> GeneratorCorpus:
    """Return all images of a folder and its sub-folders, or of a parquet file or folder.

    Args:
        config: for image_column and max_megapixels.

    Raises:
        DataError: no readable image at the path.
    """
    store, items = _index(expand(path), config)
    max_pixels = config.max_megapixels * 1e6
    scanned = scan_images(store, items, max_pixels=max_pixels, progress=progress)
    if not scanned.items:
        raise DataError(_unreadable(path))
    images = LabelledImages(
        class_names=(_CLASS,),
        ids=tuple(item.id for item in scanned.items),
        labels=(0,) * len(scanned.items),
        rows=tuple(item.row for item in scanned.items),
        store=store,
        max_pixels=max_pixels,
        bits=scanned.bits,
    )
    return GeneratorCorpus(images, scanned.sketches_N, len(scanned.quarantined))


def _unreadable(path: str | Path) -> str:
    return f"no readable image in {path}; {_GIVE}"


def _index(path: Path, config: DataConfig) -> tuple[ImageStore, list[Item]]:
    if path.is_file() and path.suffix.lower() == TABLE_SUFFIX:
        return _index_tables(path.parent, [path.name], config)
    if not path.is_dir():
        raise DataError(f"{path} is neither a folder nor a parquet file; give one of the two")
    found = find_files(path)
    if found.tables and not found.images:
        return _index_tables(path, sorted(found.tables), config)
    files = tuple(sorted(found.images))
    store = FolderStore(str(path), files)
    return store, [Item(row, posix_path(name), _CLASS, TRAIN) for row, name in enumerate(files)]


def _index_tables(
    root: Path, names: list[str], config: DataConfig
) -> tuple[ImageStore, list[Item]]:
    files = [TableFile(str(root / name), name, TRAIN) for name in names]
    column = image_column(files[0], config.image_column)
    store = TableStore(files, column, ImagePaths.of(root, config.image_root))
    store.check_paths()
    rows = sum(file.read([column]).num_rows for file in files)
    return store, [Item(row, store.name(row), _CLASS, TRAIN) for row in range(rows)]
