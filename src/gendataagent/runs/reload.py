"""The classifier of a finished run: load it, measure it on other or corrupted images."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from gendataagent.config import AUTO, RunConfig
from gendataagent.config.run_config_file import read_run_config
from gendataagent.config.settings import plain
from gendataagent.core import files
from gendataagent.core.devices import resolve_device
from gendataagent.core.errors import RunFolderError
from gendataagent.core.inside import refuse_ways_out
from gendataagent.core.progress import Progress, SilentProgress, counting
from gendataagent.core.records import Evaluation
from gendataagent.core.run_folder import RunFolder
from gendataagent.data import LabelledImages
from gendataagent.data.index import TEST, TRAIN, VALIDATION
from gendataagent.data.labels import relabelled
from gendataagent.data.loading import load_to_measure
from gendataagent.data.pixels import Pixels
from gendataagent.runs.splits import read_splits
from gendataagent.training import corruptions
from gendataagent.training.classifier import Classifier
from gendataagent.training.evaluation import Robustness, evaluate, evaluate_robustness, measure
from gendataagent.training.saving import CONFIG_FILE, read_classifier

ROBUSTNESS_FILE = "robustness.json"
OTHER, UNSEEN = "other", "unseen"


def load_classifier(
    path: str | Path, *, device: str = "auto", trust_remote_code: bool = False
) -> Classifier:
    """Return the classifier of a finished run, in eval mode.

    Only RUN/classifier is read; nothing is downloaded.

    Args:
        path: a run folder, or its `classifier` folder, wherever it was moved.
        device: auto, cpu, cuda, cuda:1...
        trust_remote_code: whether Python code in that folder, of a model of your own, may be run.

    Raises:
        RunFolderError: there is no classifier at `path`, or its files are damaged.
    """
    folder = Path(path)
    inside = RunFolder(folder).classifier
    if (inside / CONFIG_FILE).is_file():
        refuse_ways_out(path)
        folder = inside
        RunFolder(Path(path)).check_done(inside)
    elif not (folder / CONFIG_FILE).is_file():
        raise RunFolderError(_no_classifier(folder))
    return read_classifier(
        folder, device=resolve_device(device), trust_remote_code=trust_remote_code
    )


def _no_classifier(path: Path) -> str:
    if RunFolder(path).config_file.is_file():
        return (
            f"the run in {path} has no classifier yet, because it is not finished; resume it: "
            f"gendataagent run --resume {path}"
        )
    return (
        f"there is no trained classifier in {path}: it has neither classifier/{CONFIG_FILE} nor "
        f"{CONFIG_FILE}. Give the folder of a finished run, or its classifier folder"
    )


def evaluate_on(
    run_folder: str | Path,
    data: str,
    *,
    image_root: str = "",
    settings: Mapping[str, Any] | None = None,
    progress: Progress | None = None,
    trust_remote_code: bool = False,
) -> Evaluation:
    """Return the measures of a run's classifier on all images at `data`, whatever their split.

    Args:
        image_root: folder of the images that a table names by path; "" = that of the table.
        settings: those of [data] that read `data` otherwise than the run's images, such as
            {"class_folder": "last"}.
        trust_remote_code: as `load_classifier`.

    Raises:
        DataError: the images' classes are not among the classifier's.
    """
    folder = RunFolder.open(run_folder)
    classifier = load_classifier(folder.path, trust_remote_code=trust_remote_code)
    progress = progress or SilentProgress()
    pixels = _pixels(
        classifier,
        _load_other(read_run_config(folder), data, image_root, settings, progress),
        progress,
    )
    with progress.stage("evaluate", len(pixels), "images") as stage:
        return evaluate(classifier, pixels, OTHER, on_batch=stage.advance)


@dataclass(frozen=True, slots=True, kw_only=True)
class OtherImages:
    """The measures of a run's classifier on images that may be partly its own.

    Args:
        every: on all of them.
        parts: "train" (images that the classifier was trained on), "validation" (that the run
            measured it on while training) or "unseen" -> measures; a part without images is absent.
    """

    every: Evaluation
    parts: Mapping[str, Evaluation]


def evaluate_parts(
    run_folder: str | Path,
    data: str,
    *,
    image_root: str = "",
    settings: Mapping[str, Any] | None = None,
    progress: Progress | None = None,
    trust_remote_code: bool = False,
) -> OtherImages:
    """Return what `evaluate_on` does, and the same for images that the run has or has not seen.

    An image is recognised by its encoded bytes, whatever its name and place.

    Raises:
        RunFolderError: the record of the run's images is missing or has changed.
        DataError: as `evaluate_on`.
    """
    folder = RunFolder.open(run_folder)
    classifier = load_classifier(folder.path, trust_remote_code=trust_remote_code)
    progress = progress or SilentProgress()
    images = _load_other(read_run_config(folder), data, image_root, settings, progress)
    used = used_for(folder, images)
    pixels = _pixels(classifier, images, progress)
    with progress.stage("evaluate", len(pixels), "images") as stage:
        logits_NC = classifier.predict_logits(pixels, on_batch=stage.advance)
    parts = {}
    for part in (TRAIN, VALIDATION, UNSEEN):
        rows = [row for row, use in enumerate(used) if use == part]
        if rows:
            parts[part] = measure(
                logits_NC[rows], pixels.labels[rows], classifier.class_names, part
            )
    every = measure(logits_NC, pixels.labels, classifier.class_names, OTHER)
    return OtherImages(every=every, parts=parts)


def used_for(folder: RunFolder, images: LabelledImages) -> list[str]:
    """Return for each image whether the run used it: "train", "validation" or "unseen"."""
    rows = folder.recorded_images()
    use = {row["content"]: split for split in (VALIDATION, TRAIN) for row in rows
           if row["split"] == split}  # fmt: skip
    return [use.get(content, UNSEEN) for content in images.content_hashes()]


def evaluate_corrupted(
    run_folder: str | Path,
    names: Sequence[str] = tuple(corruptions.CORRUPTIONS),
    severities: Sequence[int] = corruptions.SEVERITIES,
    *,
    data: str | None = None,
    image_root: str = "",
    settings: Mapping[str, Any] | None = None,
    progress: Progress | None = None,
    trust_remote_code: bool = False,
) -> Robustness:
    """Return the measures of a finished run's classifier on its corrupted test split.

    A report on a final classifier: nothing may be chosen by it. Each image is resized and cropped
    as in the run's own test, then corrupted, so that `clean` repeats what the run measured. Written
    to RUN/robustness.json, unless the images are not the run's.

    Args:
        data: where the images are, if not where the run read them. If it holds all images of the
            run, its test split is used; otherwise all images there.
        image_root, settings: as `evaluate_on`.
        trust_remote_code: as `load_classifier`.

    Raises:
        ConfigError: no such corruption or severity.
        RunFolderError: the run is not finished, or its images have changed.
        DataError: the images are missing, or of classes the classifier does not have.
    """
    corruptions.check(names, severities)
    folder = RunFolder.open(run_folder)
    if not folder.is_done:
        raise RunFolderError(
            f"the run in {run_folder} is not finished; resume it: gendataagent run --resume "
            f"{run_folder}"
        )
    progress = progress or SilentProgress()
    classifier = load_classifier(folder.path, trust_remote_code=trust_remote_code)
    config = read_run_config(folder)
    if data is None:
        split, images = TEST, read_splits(folder.path, progress=progress).test
    else:
        split, images = _test_split_or_all(
            folder, _load_other(config, data, image_root, settings, progress)
        )
        seen = sum(use == TRAIN for use in used_for(folder, images))
        if seen:
            progress.say(
                f"{seen:,} of these {len(images):,} images are those that the run was trained on, "
                "so the figures are better than on new images"
            )
    pixels = _pixels(classifier, images, progress)
    passes = 1 + len(names) * len(severities)
    with progress.stage("evaluate", passes * len(pixels), "images") as stage:
        robustness = evaluate_robustness(
            classifier,
            pixels,
            split,
            names=names,
            severities=severities,
            images_from=config.data.path if data is None else data,
            on_batch=stage.advance,
        )
    if split == TEST:
        files.write_json(folder.path / ROBUSTNESS_FILE, robustness.to_json())
    return robustness


def _test_split_or_all(folder: RunFolder, images: LabelledImages) -> tuple[str, LabelledImages]:
    """Return the run's test split if all of its images are among these, else all of these."""
    rows = folder.recorded_images()
    there = {
        (id_, images.class_names[label], content)
        for id_, label, content in zip(
            images.ids, images.labels, images.content_hashes(), strict=True
        )
    }
    if not there.issuperset((row["id"], row["class"], row["content"]) for row in rows):
        return OTHER, images
    test_ids = {row["id"] for row in rows if row["split"] == TEST}
    return TEST, images.subset(i for i, id_ in enumerate(images.ids) if id_ in test_ids)


def _load_other(
    run: RunConfig,
    data: str,
    image_root: str,
    settings: Mapping[str, Any] | None,
    progress: Progress,
) -> LabelledImages:
    """Return all labelled images at `data`, read from the columns that the run reads.

    Paths of another table than the run's start at its own folder, or at `image_root`: at that of
    the run's images, they could name those.
    """
    if not image_root and os.path.realpath(files.expand(data)) == os.path.realpath(run.data.path):
        image_root = run.data.image_root
    columns = replace(run.data, path=data, layout=AUTO, revision="", image_root=image_root)
    if settings:
        columns = RunConfig.from_dict({"data": {**plain(columns), **settings}}).data
    with progress.stage("read images", None, "images") as stage:
        found = load_to_measure(columns, progress=counting(stage))
    for note in found.notes:
        progress.say(note)
    return found.images


def _pixels(classifier: Classifier, images: LabelledImages, progress: Progress) -> Pixels:
    """Return the images resized as in the run's own test, with the classifier's labels."""
    own = relabelled(images, classifier.class_names, "the classifier")
    if own.bits > classifier.bits > 0:
        progress.say(
            f"The images use {own.bits} bits a sample, those that the classifier was trained on "
            f"{classifier.bits}: they are scaled from {own.bits}, and so may be darker than those."
        )
    own = replace(own, bits=max(own.bits, classifier.bits))
    with progress.stage("decode", len(own), "images") as stage:
        return Pixels.from_images(own, classifier.resize_px, progress=counting(stage))
