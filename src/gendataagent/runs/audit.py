"""Which images repeat test or validation images: in train, a corpus, a run's synthetic images.

A report: nothing is changed by it. What a run itself removes is `data.near_duplicates`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from gendataagent.agent.pool import Pool
from gendataagent.config import DataConfig
from gendataagent.core.progress import Progress, SilentProgress, counting
from gendataagent.core.records import HELD_OUT
from gendataagent.core.run_folder import RunFolder
from gendataagent.data import ImageSplits, load_data
from gendataagent.data.corpus import load_corpus
from gendataagent.data.leakage import Duplicate, LeakageReport, compare, thumbnails_of
from gendataagent.data.pixels import ImageSet


@dataclass(frozen=True, slots=True)
class AuditedSet:
    """What one set holds of the held-out images: split -> report; `images` for showing them."""

    title: str
    images: ImageSet = field(repr=False)
    reports: Mapping[str, LeakageReport]


@dataclass(frozen=True, slots=True)
class Audit:
    """Every set that was looked through, against test and validation."""

    sets: tuple[AuditedSet, ...]
    held_out: Mapping[str, ImageSet] = field(repr=False)
    threshold: float
    notes: tuple[str, ...] = ()

    def pairs(self) -> list[tuple[AuditedSet, str, Duplicate]]:
        """Return (set, held-out split, pair) of every repeat, closest first."""
        found = [
            (one, split, pair)
            for one in self.sets
            for split, report in one.reports.items()
            for pair in report.duplicates
        ]
        return sorted(found, key=lambda row: (-row[2].correlation, row[2].id, row[1]))

    def to_rows(self) -> list[dict[str, Any]]:
        """Return one JSON row a pair."""
        return [
            {
                "set": one.title,
                "id": pair.id,
                "repeats_split": split,
                "repeats_id": pair.reference_id,
                "correlation": pair.correlation,
                "mirrored": pair.mirrored,
            }
            for one, split, pair in self.pairs()
        ]


def audit_data(
    data: DataConfig,
    *,
    seed: int = 0,
    corpus: str | Path | None = None,
    run: str | Path | None = None,
    progress: Progress | None = None,
) -> Audit:
    """Return what train, a corpus and a run's synthetic images hold of test and validation.

    Args:
        data: the real images; all of train is looked through, and nothing is taken out.
        seed: for splits that are drawn.
        corpus: images a generator was trained on: a folder, or parquet.
        run: a run's folder, finished or not.

    Raises:
        DataError, RunFolderError: there is nothing to be read.
    """
    progress = progress or SilentProgress()
    whole = replace(data, near_duplicates="report", train_per_class=0)
    with (
        progress.stage("read images", None, "images") as stage,
        progress.stage("near-duplicates", None, "images") as search,
    ):
        splits = load_data(whole, seed=seed, progress=counting(stage), on_search=counting(search))
    held_out = {split: splits.by_name()[split] for split in HELD_OUT if split in splits.thumbnails}
    sets = [_of_split(split, splits, data) for split in ("train", "validation")]
    notes: list[str] = []
    if corpus is not None:
        with progress.stage("read corpus", None, "images") as stage:
            read = load_corpus(corpus, data, progress=counting(stage))
        if read.refused:
            notes.append(f"{read.refused} images of the corpus cannot be read.")
        sets.append(_compared("corpus", read.images, read.thumbnails_N, splits, data))
    if run is not None:
        sets += _of_run(RunFolder.open(run), splits, data, progress)
    return Audit(tuple(sets), held_out, data.near_duplicate_correlation, tuple(notes))


def _of_split(split: str, splits: ImageSplits, data: DataConfig) -> AuditedSet:
    images = splits.by_name()[split]
    against = [other for other in HELD_OUT if other in splits.thumbnails and other != split]
    return AuditedSet(
        split,
        images,
        {
            other: LeakageReport(
                images=len(images),
                references=len(splits.by_name()[other]),
                threshold=data.near_duplicate_correlation,
                duplicates=tuple(
                    Duplicate(pair.id, pair.repeats_id, pair.correlation, pair.mirrored)
                    for pair in splits.near_duplicates
                    if (pair.split, pair.repeats_split) == (split, other)
                ),
            )
            for other in against
        },
    )


def _compared(
    title: str, images: ImageSet, thumbnails_N: Any, splits: ImageSplits, data: DataConfig
) -> AuditedSet:
    return AuditedSet(
        title,
        images,
        {
            split: compare(
                images.ids,
                thumbnails_N,
                splits.by_name()[split].ids,
                splits.thumbnails[split],
                threshold=data.near_duplicate_correlation,
            )
            for split in HELD_OUT
            if split in splits.thumbnails
        },
    )


def _of_run(
    folder: RunFolder, splits: ImageSplits, data: DataConfig, progress: Progress
) -> list[AuditedSet]:
    """Return the synthetic images of the rounds that are done: those kept, and those refused."""
    pool = Pool(folder, splits.class_names)
    rounds = len(list((folder.path / "rounds").glob("*")))
    made = [
        candidate
        for number in range(rounds)
        if folder.round_is_done(number)
        for candidate in pool.candidates(number)
        if pool.image_path(candidate).exists()
    ]
    sets = []
    for title, kept in (("synthetic, kept", True), ("synthetic, refused", False)):
        images = pool.images_of([candidate for candidate in made if candidate.kept is kept])
        with progress.stage(title, len(images), "images") as stage:
            thumbnails_N = thumbnails_of(images, counting(stage))
        sets.append(_compared(title, images, thumbnails_N, splits, data))
    return sets
