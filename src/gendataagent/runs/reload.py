"""The classifier of a finished run: load it, measure it on other or corrupted images."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from gendataagent.config import DataConfig
from gendataagent.config.run_config_file import read_run_config
from gendataagent.core import files
from gendataagent.core.devices import resolve_device
from gendataagent.core.errors import DataError, RunFolderError
from gendataagent.core.progress import Progress, SilentProgress, counting
from gendataagent.core.records import Evaluation
from gendataagent.core.run_folder import RunFolder
from gendataagent.data import LabelledImages, load_data
from gendataagent.data.class_names import readable_class_name
from gendataagent.data.pixels import Pixels
from gendataagent.runs.splits import read_splits
from gendataagent.training import corruptions
from gendataagent.training.classifier import Classifier
from gendataagent.training.evaluation import Robustness, evaluate, evaluate_robustness
from gendataagent.training.saving import CONFIG_FILE, read_classifier

ROBUSTNESS_FILE = "robustness.json"
TEST, OTHER = "test", "other"


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
        folder = inside
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


def _classifier_of(folder: RunFolder) -> Classifier:
    """Return the classifier of a run whose settings say whether its code may be run."""
    return load_classifier(folder.path, trust_remote_code=read_run_config(folder).trust_remote_code)


def evaluate_on(
    run_folder: str | Path, data: str, *, progress: Progress | None = None
) -> Evaluation:
    """Return the measures of a run's classifier on all images at `data`, whatever their split.

    Raises:
        DataError: the images' classes are not among the classifier's.
    """
    classifier = _classifier_of(RunFolder.open(run_folder))
    progress = progress or SilentProgress()
    parts = list(_load_other(data, progress).values())
    pixels = _pixels(classifier, parts, progress)
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
    """Return the measures of a finished run's classifier on its corrupted test split.

    A report on a final classifier: nothing may be chosen by it. Each image is resized and cropped
    as in the run's own test, then corrupted, so that `clean` repeats what the run measured. Written
    to RUN/robustness.json, unless the images are not the run's.

    Args:
        data: where the images are, if not where the run read them. If it holds all images of the
            run, its test split is used; otherwise all images there.

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
    classifier = _classifier_of(folder)
    if data is None:
        split, parts, place = (
            TEST,
            [read_splits(folder.path, progress=progress).test],
            read_run_config(folder).data.path,
        )
    else:
        split, parts = _test_split_or_all(folder, data, progress)
        place = data
    pixels = _pixels(classifier, parts, progress)
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
    """Return the run's test split if all of its images are at `data`, else all images there."""
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


def _pixels(classifier: Classifier, parts: Sequence[LabelledImages], progress: Progress) -> Pixels:
    """Return the images resized as in the run's own test, with the classifier's labels."""
    images = [_renumbered(part, classifier) for part in parts if len(part)]
    if not images:
        raise DataError("there are no images to evaluate on")
    with progress.stage("decode", sum(map(len, images)), "images") as stage:
        return Pixels.concat(
            [
                Pixels.from_images(part, classifier.resize_px, progress=counting(stage))
                for part in images
            ]
        )


def _renumbered(images: LabelledImages, classifier: Classifier) -> LabelledImages:
    """Return `images` with the classifier's labels.

    Classes are matched by name, otherwise by the readable form of the name if it is unique
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
