"""`load_data`: from a path in the settings to checked, split, labelled images."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Sequence
from pathlib import Path

from gendataagent.config import AUTO, DataConfig
from gendataagent.core.errors import DataError
from gendataagent.data.bundled import ASSETS
from gendataagent.data.columns import list_tables
from gendataagent.data.deduplication import weed
from gendataagent.data.folder import TABLE_SUFFIX, find_files, list_folder
from gendataagent.data.hub import HUB_PREFIX, list_hub
from gendataagent.data.listing import (
    SPLITS,
    TEST,
    TRAIN,
    VALIDATION,
    Item,
    Listing,
    PaperCounts,
    some,
)
from gendataagent.data.naming import with_readable_names
from gendataagent.data.near_duplicates import Search
from gendataagent.data.official import (
    ARCHIVES,
    FOLDER,
    find_archive,
    list_archive,
    not_there,
)
from gendataagent.data.scan import Screened, screen
from gendataagent.data.sets import LabelledImages
from gendataagent.data.splits import (
    ImageSplits,
    check_classes,
    draw_missing_splits,
    draw_train_subset,
    duplicate_notes,
    fingerprint_of,
)
from gendataagent.data.tables import TableFile, parquet_files, saved_files

BUNDLED_PREFIX = "bundled:"
BUNDLED = ("cifar10",)


def load_data(
    config: DataConfig,
    *,
    seed: int,
    progress: Callable[[int, int], None] | None = None,
    on_search: Search | None = None,
) -> ImageSplits:
    """Return the images of `config.path`, every one of them decoded once to see that it can be.

    Missing splits are drawn from train, stratified, by `seed`; what cannot be read is left out and
    listed in `quarantined`, never replaced. Near-duplicates across splits are dealt with as
    `data.near_duplicates` says, before a training subset is drawn, so that it is not the smaller
    for them. Order within a split: by id for folders, by file and row for tables.

    Args:
        progress: called with (images checked, images in all), from the calling thread.
        on_search: called with (images compared, images to compare) while near-duplicates
            across splits are looked for.

    Raises:
        DataError: nothing usable at the path, or classes, labels or ids that do not hold together.
    """
    listing = list_data(config)
    max_pixels = config.max_megapixels * 1e6
    screened = screen(listing.store, listing.items, max_pixels=max_pixels, progress=progress)
    quarantined = (*listing.quarantined, *screened.quarantined)
    _require_readable(config, listing, screened)
    items, split_notes = draw_missing_splits(screened.items, screened.digests, config, seed=seed)
    weeded = weed(items, screened.thumbnails_N, config, on_search=on_search)
    thumbnail_of = {item.id: i for i, item in enumerate(items)}
    items = weeded.items
    paper_notes = _paper_notes(screened.items, items, listing.paper) if listing.paper else []
    items, subset_notes = draw_train_subset(items, config.train_per_class, seed=seed)
    class_names, class_notes = check_classes(items, listing.class_names)
    notes = [*listing.notes, *split_notes, *weeded.notes, *paper_notes, *subset_notes, *class_notes]
    notes += duplicate_notes(items, screened.digests)
    if quarantined:
        notes.append(f"Refused {len(quarantined)} files, folders or rows that cannot be used.")
    sets = {split: _one_split(split, items, class_names, listing, max_pixels) for split in SPLITS}
    return ImageSplits(
        train=sets[TRAIN],
        validation=sets[VALIDATION],
        test=sets[TEST],
        quarantined=quarantined,
        notes=tuple(notes),
        fingerprint=fingerprint_of(items),
        near_duplicates=weeded.found,
        thumbnails={
            split: screened.thumbnails_N[[thumbnail_of[i] for i in sets[split].ids]]
            for split in (VALIDATION, TEST)
            if len(sets[split])
        },
    )


def _paper_notes(readable: Sequence[Item], split: Sequence[Item], paper: PaperCounts) -> list[str]:
    """Return where the counts differ from the paper's, and what the drawn validation set costs."""
    notes = []
    for name, expected in ((TRAIN, paper.train), (TEST, paper.test)):
        got = sum(item.split == name for item in readable)
        if got != expected:
            notes.append(f"{name}: {got:,} images, the paper has {expected:,} ({paper.title}).")
    classes = len({item.class_name for item in readable})
    if classes != paper.classes:
        notes.append(f"{classes} classes, the paper has {paper.classes} ({paper.title}).")
    if all(item.split != VALIDATION for item in readable):
        remain = sum(item.split == TRAIN for item in split)
        notes.append(
            "The paper counts no validation split; with one set aside, so that test is not used "
            f"for choosing, {remain:,} images remain to train on."
        )
    return notes


def _one_split(
    split: str,
    items: Sequence[Item],
    class_names: tuple[str, ...],
    listing: Listing,
    max_pixels: float,
) -> LabelledImages:
    label_of = {name: label for label, name in enumerate(class_names)}
    own = [item for item in items if item.split == split]
    return LabelledImages(
        class_names=class_names,
        ids=tuple(item.id for item in own),
        labels=tuple(label_of[item.class_name] for item in own),
        rows=tuple(item.row for item in own),
        store=listing.store,
        max_pixels=max_pixels,
    )


def list_data(config: DataConfig) -> Listing:
    """Return what the path says it holds, its classes called by words; no image is decoded.

    Raises:
        DataError: nothing usable at the path.
    """
    if config.path.startswith(HUB_PREFIX):
        return with_readable_names(list_hub(config))
    check_path(config)
    path = _resolve(config.path)
    listing = _list_tables(path, config)
    if listing is None and (archive := find_archive(path, config.layout)):
        return list_archive(*archive)
    return with_readable_names(listing or _list_folder(path, config))


def check_path(config: DataConfig) -> None:
    """Raise `DataError` if nothing lies at the path; reads nothing and asks no network."""
    if not config.path:
        raise DataError(_no_path(config.layout))
    if not config.path.startswith(HUB_PREFIX):
        _resolve(config.path)


def _no_path(layout: str) -> str:
    """Return what to say where no data is named; an empty path would mean the current folder."""
    if layout in ARCHIVES:
        archive = ARCHIVES[layout]
        return f"data.path is empty: give --data DIR, {archive.counts.title}. {archive.unpack}"
    return "data.path is empty: give --data DIR, a folder of images with one folder a class"


def _list_tables(path: Path, config: DataConfig) -> Listing | None:
    """Return what a parquet file or a data set saved by `datasets` holds; None if it is neither."""
    if path.is_file():
        if path.suffix.lower() != TABLE_SUFFIX:
            raise DataError(
                f"{path} is a file of no known kind; allowed are a parquet file, or a folder of "
                "images, of parquet files, or saved by Hugging Face datasets"
            )
        table = TableFile(str(path), path.name, TRAIN)
        return list_tables(path.parent, [table], config, _layout_notes(config))
    if (path / "dataset_dict.json").exists() or (path / "state.json").exists():
        files, notes = saved_files(path)
        return list_tables(path, files, config, [*_layout_notes(config), *notes])
    return None


def _layout_notes(config: DataConfig) -> list[str]:
    if config.layout in (AUTO, FOLDER):
        return []
    return [f"data.layout = {config.layout} means folders; the tables are read as they are."]


def _list_folder(path: Path, config: DataConfig) -> Listing:
    """Return what a folder of images, or of parquet files, holds."""
    found = find_files(path)
    if found.tables and not found.images:
        files, notes = parquet_files(path, found.tables)
        return list_tables(path, files, config, [*_layout_notes(config), *notes])
    if config.layout not in (AUTO, FOLDER):
        raise not_there(path, config.layout)
    if found.tables:
        found.others[TABLE_SUFFIX] += len(found.tables)
    return list_folder(path, found)


def _resolve(text: str) -> Path:
    if text.startswith(BUNDLED_PREFIX):
        name = text.removeprefix(BUNDLED_PREFIX)
        if name not in BUNDLED:
            raise DataError(
                f"no bundled data {name!r}; bundled are: "
                + ", ".join(BUNDLED_PREFIX + known for known in BUNDLED)
            )
        path = ASSETS / name
    else:
        path = Path(text).expanduser()
    if path.exists():
        return path
    siblings = [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else []
    close = difflib.get_close_matches(path.name, siblings, n=1)
    hint = f" (did you mean {path.parent / close[0]}?)" if close else ""
    raise DataError(
        f"data.path {path} does not exist{hint}. Give a folder of images (class/*.jpg), a "
        "parquet file or folder, a folder saved by Hugging Face datasets, hub:NAME for a data set "
        "of the Hub, or bundled:cifar10"
    )


def _require_readable(config: DataConfig, listing: Listing, screened: Screened) -> None:
    if not listing.items:
        raise DataError(f"{config.path} holds no labelled images; expected at least two classes")
    if all(item.split != TRAIN for item in screened.items):
        refused = [f"{bad.name} ({bad.reason})" for bad in screened.quarantined]
        raise DataError(
            f"none of the training images in {config.path} can be read: {some(refused)}. Restore "
            "them from where they came from"
        )
