"""`load_data`: from data.path to checked, split, labelled images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from gendataagent.config import DataConfig
from gendataagent.core.errors import DataError
from gendataagent.core.progress import OnProgress
from gendataagent.data.duplicates.deduplication import deduplicate
from gendataagent.data.duplicates.likeness import Likeness, measure_likeness
from gendataagent.data.groups import group_images, groups_across_splits
from gendataagent.data.index import (
    SPLITS,
    TEST,
    TRAIN,
    VALIDATION,
    DatasetIndex,
    Item,
    PaperCounts,
    Quarantined,
    first_few,
)
from gendataagent.data.indexing import index_data
from gendataagent.data.labels import name_notes
from gendataagent.data.scan import ScanResult, scan_images
from gendataagent.data.sets import LabelledImages
from gendataagent.data.splits import (
    ImageSplits,
    check_classes,
    conflict_notes,
    draw_missing_splits,
    draw_train_subset,
    duplicate_notes,
    fingerprint_of,
    with_images,
)
from gendataagent.data.synthetic_marks import held_out_notes, measured_notes


def load_data(
    config: DataConfig | str | Path,
    *,
    seed: int = 0,
    to_train: bool = True,
    progress: OnProgress | None = None,
    on_search: OnProgress | None = None,
) -> ImageSplits:
    """Return the images of a path or `config.path`, each decoded once to check it is readable.

    Missing splits are drawn from train, stratified, by `seed`. Unreadable images are left out and
    listed in `quarantined`, never replaced. `data.near_duplicates` applies before
    `data.train_per_class` draws its subset, so that the subset keeps its size. Order within a
    split: by id for folders, by file and row for tables.

    Args:
        to_train: whether training images of at least two classes are needed.
        progress: called with (images checked, images in total), from the calling thread.
        on_search: called with (images compared, images to compare) during the search for
            near-duplicates across splits.

    Raises:
        DataError: nothing usable at the path, or inconsistent classes, labels or ids.
    """
    if not isinstance(config, DataConfig):
        config = DataConfig(path=str(config))
    index = index_data(config, need_train=to_train)
    max_pixels = config.max_megapixels * 1e6
    scanned = scan_images(index.store, index.items, max_pixels=max_pixels, progress=progress)
    quarantined = (*index.quarantined, *scanned.quarantined)
    _require_readable(config, index, scanned, to_train=to_train)
    likeness = Likeness()
    if config.near_duplicates != "off":
        likeness = measure_likeness(scanned.sketches_N, on_progress=on_search)
    groups, group_notes = group_images(scanned.items, scanned.digests, likeness, index, config)
    synthetic = index.synthetic | scanned.synthetic
    items, split_notes = draw_missing_splits(
        scanned.items, groups, config, seed=seed, synthetic=synthetic
    )
    deduplicated = deduplicate(items, likeness, config)
    sketch_of = {item.id: i for i, item in enumerate(items)}
    items = deduplicated.items
    paper_notes = _paper_notes(scanned.items, items, index.paper) if index.paper else []
    items, subset_notes = draw_train_subset(items, config.train_per_class, seed=seed)
    if to_train:
        class_names, class_notes = check_classes(items, index.class_names)
    else:
        class_names, class_notes = with_images(index.class_names, items), []
    notes = [
        *index.notes,
        *scanned.notes,
        *group_notes,
        *split_notes,
        *deduplicated.notes,
        *paper_notes,
        *subset_notes,
        *class_notes,
        *name_notes(class_names),
    ]
    notes += duplicate_notes(items, scanned.digests)
    notes += conflict_notes(items, scanned.digests)
    notes += groups_across_splits(items, index, config)
    notes += held_out_notes(items, synthetic)
    if quarantined:
        notes.append(_quarantine_note(quarantined))
    sets = {
        split: _labelled(
            [item for item in items if item.split == split],
            class_names,
            index,
            max_pixels,
            scanned.bits,
            scanned.digests,
        )
        for split in SPLITS
    }
    return ImageSplits(
        train=sets[TRAIN],
        validation=sets[VALIDATION],
        test=sets[TEST],
        quarantined=quarantined,
        notes=tuple(notes),
        fingerprint=fingerprint_of(items, scanned.digests),
        near_duplicates=deduplicated.found,
        sketches={
            split: scanned.sketches_N[[sketch_of[i] for i in sets[split].ids]]
            for split in (VALIDATION, TEST)
            if len(sets[split])
        },
        likeness=likeness,
    )


@dataclass(frozen=True, slots=True)
class ImagesToMeasure:
    """All labelled images of a data set, whatever their split.

    Args:
        images: with the class names that the data set has, in its order.
        quarantined: unreadable images, each with the reason.
        notes: sentences for the user.
    """

    images: LabelledImages
    quarantined: tuple[Quarantined, ...]
    notes: tuple[str, ...]


def load_to_measure(config: DataConfig, *, progress: OnProgress | None = None) -> ImagesToMeasure:
    """Return all labelled images of a path, to measure a classifier on them.

    Nothing is trained on them: one class is enough, and so is a test split alone. Near-duplicates
    stay, and no subset is drawn.

    Args:
        progress: called with (images checked, images in total), from the calling thread.

    Raises:
        DataError: nothing usable at the path, or inconsistent labels or ids.
    """
    index = index_data(config, need_train=False)
    max_pixels = config.max_megapixels * 1e6
    scanned = scan_images(index.store, index.items, max_pixels=max_pixels, progress=progress)
    quarantined = (*index.quarantined, *scanned.quarantined)
    if not scanned.items:
        raise DataError(_nothing_readable(config, index, scanned, "image"))
    notes = [*index.notes, *scanned.notes, *name_notes(index.class_names)]
    notes += conflict_notes(scanned.items, scanned.digests)
    notes += measured_notes(scanned.items, index.synthetic | scanned.synthetic)
    if quarantined:
        notes.append(_quarantine_note(quarantined))
    names = with_images(index.class_names, scanned.items)
    return ImagesToMeasure(
        _labelled(scanned.items, names, index, max_pixels, scanned.bits, scanned.digests),
        quarantined,
        tuple(notes),
    )


def _paper_notes(readable: Sequence[Item], split: Sequence[Item], paper: PaperCounts) -> list[str]:
    """Return notes on counts that differ from the paper's, and on a drawn validation split."""
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
            "The paper has no validation split; one was drawn from train, so that nothing is "
            f"chosen on test. {remain:,} training images remain."
        )
    return notes


def _quarantine_note(quarantined: Sequence[Quarantined]) -> str:
    first = [f"{bad.name} ({bad.reason})" for bad in quarantined]
    return (
        f"Unreadable files, folders or rows, quarantined: {len(quarantined)}: "
        f"{first_few(first, at_most=2)}."
    )


def _labelled(
    items: Sequence[Item],
    class_names: tuple[str, ...],
    index: DatasetIndex,
    max_pixels: float,
    bits: int,
    digests: Mapping[str, bytes],
) -> LabelledImages:
    label_of = {name: label for label, name in enumerate(class_names)}
    return LabelledImages(
        class_names=class_names,
        ids=tuple(item.id for item in items),
        labels=tuple(label_of[item.class_name] for item in items),
        rows=tuple(item.row for item in items),
        store=index.store,
        max_pixels=max_pixels,
        bits=bits,
        contents=tuple(digests[item.id].hex() for item in items),
    )


def _require_readable(
    config: DataConfig, index: DatasetIndex, scanned: ScanResult, *, to_train: bool
) -> None:
    if not any(item.split == TRAIN or not to_train for item in scanned.items):
        what = "training image" if to_train else "image"
        raise DataError(_nothing_readable(config, index, scanned, what))


def _nothing_readable(
    config: DataConfig, index: DatasetIndex, scanned: ScanResult, what: str
) -> str:
    if not index.items:
        return f"{config.path} holds no labelled images; give a folder with one folder a class"
    unreadable = [f"{bad.name} ({bad.reason})" for bad in scanned.quarantined]
    return (
        f"no {what} in {config.path} can be read: {first_few(unreadable)}. Restore the files from "
        "their source"
    )
