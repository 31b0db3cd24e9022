"""Figures for a data card: do synthetic images repeat held-out images, or copy training images?"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from gendataagent.agent.synthetic import SyntheticImages
from gendataagent.config.run_config_file import read_run_config
from gendataagent.core.progress import Progress, counting
from gendataagent.core.records import HELD_OUT, derive_seed
from gendataagent.core.run_folder import RunFolder
from gendataagent.data import ImageSplits
from gendataagent.data.duplicates.leakage import compare_sketches, sketches_of
from gendataagent.data.pixels import ImageSet, Pixels
from gendataagent.runs.reload import load_classifier
from gendataagent.training.memorisation import memorisation

MOST_IMAGES = 20_000  # of all sets together; more would take hours without a GPU


def copies(
    folder: RunFolder, splits: ImageSplits, made: SyntheticImages, progress: Progress
) -> list[str]:
    """Return sentences with the leakage and memorisation figures of kept images."""
    return [*_leakage(splits, made, progress), *_memorisation(folder, splits, made, progress)]


def _leakage(splits: ImageSplits, made: SyntheticImages, progress: Progress) -> Iterator[str]:
    if not splits.sketches:
        yield "Near-duplicates of held-out images were not looked for (data.near_duplicates = off)."
        return
    with progress.stage("near-duplicates", len(made), "images") as stage:
        sketches_N = sketches_of(made, counting(stage))
    for split in HELD_OUT:
        if split in splits.sketches:
            ids, references_R = splits.by_name()[split].ids, splits.sketches[split]
            shared = splits.likeness.shared
            report = compare_sketches(made.ids, sketches_N, ids, references_R, shared=shared)
            yield (
                f"Leakage: {len(report.ids):,} of the {len(made):,} synthetic images are "
                f"near-duplicates of a {split} image."
            )
    if splits.likeness.all_alike:
        yield "All images of this data set are alike, so near-duplicates cannot be told apart."


def _memorisation(
    folder: RunFolder, splits: ImageSplits, made: SyntheticImages, progress: Progress
) -> Iterator[str]:
    images: list[ImageSet] = [splits.train, splits.validation, splits.test, made]
    if not folder.is_done or not len(splits.validation):
        yield "Memorisation was not measured: it needs a finished run with a validation split."
        return
    if sum(map(len, images)) > MOST_IMAGES:
        yield f"Memorisation was not measured: there are more than {MOST_IMAGES:,} images."
        return
    classifier = load_classifier(Path(folder.path))
    with progress.stage("memorisation", None):
        train, held_out, control, synthetic = (
            Pixels.from_images(each, classifier.size_px) for each in images
        )
        found = memorisation(
            classifier,
            synthetic,
            [candidate.made_from for candidate in made.candidates],
            train=train,
            held_out=held_out,
            control=control if len(control) else None,
            seed=derive_seed(read_run_config(folder).seed, "memorisation"),
        )
    control_words = (
        f"; {found.control:.2f} for real images that it was not trained on"
        if found.control is not None
        else ""
    )
    yield (
        f"Memorisation ratio, the share of synthetic images that are nearer to a training image "
        f"than to any of as many held-out images: {found.ratio:.2f}; {found.without_source:.2f} "
        f"without the image that each was made from{control_words}. 0.5 means no copying."
    )
