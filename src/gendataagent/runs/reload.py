"""A finished run's classifier, loaded again to be used or measured."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from gendataagent.config import DataConfig
from gendataagent.config.run_config_file import read_run_config
from gendataagent.core import files
from gendataagent.core.checkpoints import list_weights, load_weights
from gendataagent.core.devices import resolve_device
from gendataagent.core.errors import DataError, RunFolderError
from gendataagent.core.progress import Progress, SilentProgress, counting
from gendataagent.core.records import Evaluation, derive_seed
from gendataagent.core.run_folder import RunFolder
from gendataagent.data import LabelledImages, load_data
from gendataagent.data.class_names import readable_class_name
from gendataagent.data.pixels import Pixels
from gendataagent.runs.splits import read_splits
from gendataagent.training import corruptions
from gendataagent.training.augmentation import Augmenter
from gendataagent.training.backbones import build_classifier
from gendataagent.training.classifier import Classifier
from gendataagent.training.evaluation import Robustness, evaluate, evaluate_robustness

ROBUSTNESS_FILE = "robustness.json"
TEST, OTHER = "test", "other"


def load_classifier(run_folder: str | Path, *, device: str = "auto") -> Classifier:
    """Return the classifier of a finished run, in eval mode.

    Of the model it started from, the configuration has to be there still, but not the weights.

    Raises:
        RunFolderError: the run is not finished or its weights are damaged.
        ModelError: the configuration of the model is not to be had any more.
    """
    folder = RunFolder.open(run_folder)
    weights = list_weights(folder.classifier)
    if not weights:
        raise RunFolderError(
            f"the run in {run_folder} has no final weights yet; go on with it: gendataagent run "
            f"--resume {run_folder}"
        )
    config = read_run_config(folder)
    classifier = build_classifier(
        replace(config.classifier, pretrained=False),
        files.read_json(folder.manifest_file)["class_names"],
        seed=derive_seed(config.seed, "classifier"),
        device=resolve_device(device),
        trust_remote_code=config.trust_remote_code,
    )
    classifier.module.load_state_dict(load_weights(weights[-1][1]))
    classifier.module.eval()
    return classifier


def evaluate_on(
    run_folder: str | Path, data: str, *, progress: Progress | None = None
) -> Evaluation:
    """Return how a run's classifier does on all images at `data`, whatever their split.

    Raises:
        DataError: the images' classes are not among the classifier's.
    """
    classifier = load_classifier(run_folder)
    progress = progress or SilentProgress()
    parts = list(_load_other(data, progress).values())
    pixels = _pixels(RunFolder.open(run_folder), classifier, parts, progress)
    with progress.stage("evaluate", len(pixels), "images") as stage:
        return evaluate(classifier, pixels, OTHER, on_batch=stage.advance)


def evaluate_corrupted(
    run_folder: str | Path,
    names: Sequence[str] = tuple(corruptions.CORRUPTIONS),
    severities: Sequence[int] = corruptions.SEVERITIES,
    *,
    data: str | None = None,
    progress: Progress | None = None,
) -> Robustness:
    """Return how a finished run's classifier does on its test split made worse.

    It is a report on a classifier that does not change any more: nothing may be chosen by it. Each
    image is squared and cropped as in the run's own test, then corrupted, so that `clean` repeats
    what the run measured. Written to RUN/robustness.json, unless the images are others.

    Args:
        data: where the images are, if not where the run read them. If all of the run's images
            are there, they have moved, and its test split is taken; else all that is there.

    Raises:
        ConfigError: no such corruption or severity.
        RunFolderError: the run is not finished, or its images have changed.
        DataError: the images are not there, or of classes the classifier does not know.
    """
    corruptions.check(names, severities)
    folder = RunFolder.open(run_folder)
    if not folder.is_done:
        raise RunFolderError(
            f"the run in {run_folder} is not finished; go on with it: gendataagent run --resume "
            f"{run_folder}"
        )
    progress = progress or SilentProgress()
    classifier = load_classifier(run_folder)
    if data is None:
        split, parts, place = (
            TEST,
            [read_splits(folder.path, progress=progress).test],
            read_run_config(folder).data.path,
        )
    else:
        split, parts = _test_split_or_all(folder, data, progress)
        place = data
    pixels = _pixels(folder, classifier, parts, progress)
    passes = 1 + len(names) * len(severities)
    with progress.stage("evaluate", passes * len(pixels), "images") as stage:
        robustness = evaluate_robustness(
            classifier,
            pixels,
            split,
            names=names,
            severities=severities,
            images_from=place,
            on_batch=stage.advance,
        )
    if split == TEST:
        files.write_json(folder.path / ROBUSTNESS_FILE, robustness.to_json())
    return robustness


def _test_split_or_all(
    folder: RunFolder, data: str, progress: Progress
) -> tuple[str, list[LabelledImages]]:
    """Return the run's test split if all of its images are at `data`, else all that is there."""
    found = _load_other(data, progress)
    rows = files.read_jsonl(folder.splits_file)
    there = {
        (id_, images.class_names[label])
        for images in found.values()
        for id_, label in zip(images.ids, images.labels, strict=True)
    }
    class_of = {row["id"]: row["class"] for row in rows}
    if not there.issuperset(class_of.items()):
        return OTHER, list(found.values())
    test_ids = {row["id"] for row in rows if row["split"] == TEST}
    return TEST, [
        images.subset(i for i, id_ in enumerate(images.ids) if id_ in test_ids)
        for images in found.values()
    ]


def _load_other(data: str, progress: Progress) -> dict[str, LabelledImages]:
    with progress.stage("read images", None, "images") as stage:
        splits = load_data(
            DataConfig(path=data, near_duplicates="off"), seed=0, progress=counting(stage)
        )
    return dict(splits.by_name())


def _pixels(
    folder: RunFolder, classifier: Classifier, parts: Sequence[LabelledImages], progress: Progress
) -> Pixels:
    """Return the images squared as in the run's own test, labelled in the classifier's numbers.

    With a margin around the centre crop where training crops at random: for 224 px that is the
    usual resizing of the shorter side to 256.
    """
    stored_px = Augmenter.from_config(
        read_run_config(folder).training, classifier.size_px
    ).stored_px
    images = [_renumbered(part, classifier) for part in parts if len(part)]
    if not images:
        raise DataError("there are no images to evaluate on")
    with progress.stage("decode", sum(map(len, images)), "images") as stage:
        return Pixels.concat(
            [Pixels.from_images(part, stored_px, progress=counting(stage)) for part in images]
        )


def _renumbered(images: LabelledImages, classifier: Classifier) -> LabelledImages:
    """Return `images` with labels in the classifier's numbering.

    Classes are matched by name; where that fails by how the name reads, if only one class reads so
    ("apple_pie" is "Apple pie").
    """
    exact = {name: label for label, name in enumerate(classifier.class_names)}
    alike = Counter(map(_reading, classifier.class_names))
    read = {_reading(n): label for n, label in exact.items() if alike[_reading(n)] == 1}
    number_of = {name: exact.get(name, read.get(_reading(name))) for name in images.class_names}
    unknown = sorted(name for name, label in number_of.items() if label is None)
    if unknown:
        raise DataError(
            f"the classifier has no class {', '.join(unknown[:5])}; its classes are "
            f"{', '.join(classifier.class_names[:20])}"
        )
    numbers = [label for name in images.class_names if (label := number_of[name]) is not None]
    return replace(
        images,
        class_names=classifier.class_names,
        labels=tuple(numbers[label] for label in images.labels),
    )


def _reading(name: str) -> str:
    return readable_class_name(name).casefold()
