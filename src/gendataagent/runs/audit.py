"""Leakage audit: near-duplicates of test and validation images in train, a corpus or a run.

Reads only. What a run itself removes is the setting data.near_duplicates.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from gendataagent.agent.by_hand.in_effect import current_decisions
from gendataagent.agent.pool import Pool
from gendataagent.config import DataConfig
from gendataagent.core.progress import Progress, SilentProgress, counting
from gendataagent.core.records import HELD_OUT
from gendataagent.core.run_folder import RunFolder
from gendataagent.data import ImageSplits, load_data
from gendataagent.data.duplicates.deduplication import ALL_ALIKE
from gendataagent.data.duplicates.leakage import (
    DuplicatePair,
    LeakageReport,
    compare_sketches,
    sketches_of,
)
from gendataagent.data.duplicates.sketches import Sketches
from gendataagent.data.generator_corpus import load_generator_corpus
from gendataagent.data.pixels import ImageSet
from gendataagent.data.synthetic_marks import is_held_out_note


@dataclass(frozen=True, slots=True)
class AuditedSet:
    """The near-duplicates in one set: held-out split -> report.

    Args:
        removed: ids that data.near_duplicates = remove takes out of this set.
    """

    title: str
    images: ImageSet = field(repr=False)
    reports: Mapping[str, LeakageReport]
    removed: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Audit:
    """Every audited set, against validation and test."""

    sets: tuple[AuditedSet, ...]
    held_out: Mapping[str, ImageSet] = field(repr=False)
    notes: tuple[str, ...] = ()

    def pairs(self) -> list[tuple[AuditedSet, str, DuplicatePair]]:
        """Return (set, held-out split, pair) of every near-duplicate, closest first."""
        found = [
            (one, split, pair)
            for one in self.sets
            for split, report in one.reports.items()
            for pair in report.duplicates
        ]
        return sorted(found, key=lambda row: (-row[2].correlation, row[2].id, row[1]))

    def to_rows(self) -> list[dict[str, Any]]:
        """Return one JSON row per pair."""
        return [
            {
                "set": one.title,
                "id": pair.id,
                "reference_split": split,
                "reference_id": pair.reference_id,
                "correlation": pair.correlation,
                "mirrored": pair.mirrored,
                "removed": pair.id in one.removed,
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
    """Return the near-duplicates of test and validation in train, a corpus and a run.

    Args:
        data: the real images; all of train is compared, and nothing is removed.
        seed: for splits that have to be drawn.
        corpus: images a generator was trained on: a folder, or parquet.
        run: a run folder, finished or not.

    Raises:
        DataError, RunFolderError: data, corpus or run cannot be read.
    """
    progress = progress or SilentProgress()
    everything = replace(data, near_duplicates="report", train_per_class=0)
    with (
        progress.stage("read images", None, "images") as stage,
        progress.stage("near-duplicates", None, "images") as search,
    ):
        splits = load_data(
            everything,
            seed=seed,
            to_train=False,
            progress=counting(stage),
            on_search=counting(search),
        )
    held_out = {split: splits.by_name()[split] for split in HELD_OUT if split in splits.sketches}
    sets = [_of_split(split, splits) for split in ("train", "validation")]
    notes = [note for note in splits.notes if is_held_out_note(note)]
    notes += [ALL_ALIKE] if splits.likeness.all_alike else []
    if corpus is not None:
        with progress.stage("read corpus", None, "images") as stage:
            read = load_generator_corpus(corpus, data, progress=counting(stage))
        if read.unreadable:
            notes.append(f"Images of the corpus that cannot be read: {read.unreadable:,}.")
        sets.append(_compared("corpus", read.images, read.sketches_N, splits))
    if run is not None:
        sets += _of_run(RunFolder.open(run), splits, progress)
    return Audit(tuple(sets), held_out, tuple(notes))


def _of_split(split: str, splits: ImageSplits) -> AuditedSet:
    images = splits.by_name()[split]
    return AuditedSet(
        split,
        images,
        {
            other: LeakageReport(
                tuple(
                    DuplicatePair(pair.id, pair.reference_id, pair.correlation, pair.mirrored)
                    for pair in splits.near_duplicates
                    if (pair.split, pair.reference_split) == (split, other)
                ),
            )
            for other in HELD_OUT
            if other in splits.sketches and other != split
        },
        frozenset(
            pair.id for pair in splits.near_duplicates if pair.removable and pair.split == split
        ),
    )


def _compared(
    title: str, images: ImageSet, sketches_N: Sketches, splits: ImageSplits
) -> AuditedSet:
    return AuditedSet(
        title,
        images,
        {
            split: compare_sketches(
                images.ids,
                sketches_N,
                splits.by_name()[split].ids,
                splits.sketches[split],
                shared=splits.likeness.shared,
            )
            for split in HELD_OUT
            if split in splits.sketches
        },
    )


def _of_run(folder: RunFolder, splits: ImageSplits, progress: Progress) -> list[AuditedSet]:
    """Return the synthetic images of the finished rounds: those kept, and those rejected."""
    pool = Pool(folder, splits.class_names)
    if folder.is_done:
        folder.rounds_at_the_end()  # none is missing
    rounds = len(list((folder.path / "rounds").glob("*")))
    by_hand = current_decisions(folder)
    candidates = [
        candidate
        for number in range(rounds)
        if folder.round_is_done(number)
        for candidate in pool.decided(number, by_hand)
        if pool.image_path(candidate).exists()
    ]
    sets = []
    for title, kept in (("synthetic, kept", True), ("synthetic, rejected", False)):
        images = pool.images_of([candidate for candidate in candidates if candidate.kept is kept])
        with progress.stage(title, len(images), "images") as stage:
            sketches_N = sketches_of(images, counting(stage))
        sets.append(_compared(title, images, sketches_N, splits))
    return sets
