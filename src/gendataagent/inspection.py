"""A finished run's classifier, loaded again to be used or measured."""

from __future__ import annotations

from pathlib import Path

from gendataagent import storage
from gendataagent.backbones import build_classifier
from gendataagent.checkpoint import list_weights, load_weights
from gendataagent.classifier import Classifier
from gendataagent.components import resolve_device
from gendataagent.config import DataConfig
from gendataagent.data import LabelledImages, load_data
from gendataagent.errors import DataError, RunFolderError
from gendataagent.evaluation import evaluate
from gendataagent.pixels import Pixels
from gendataagent.progress import Progress, SilentProgress
from gendataagent.records import Evaluation, derive_seed
from gendataagent.runfolder import RunFolder


def load_classifier(run_folder: str | Path, *, device: str = "auto") -> Classifier:
    """Return the classifier of a finished run, in eval mode.

    Raises:
        RunFolderError: the run is not finished or its weights are damaged.
    """
    folder = RunFolder.open(run_folder)
    weights = list_weights(folder.classifier)
    if not weights:
        raise RunFolderError(
            f"the run in {run_folder} has no final weights yet; go on with it: gendataagent run "
            f"--resume {run_folder}"
        )
    config = folder.config()
    classifier = build_classifier(
        config.classifier,
        storage.read_json(folder.manifest_file)["class_names"],
        seed=derive_seed(config.seed, "classifier"),
        device=resolve_device(device),
    )
    classifier.module.load_state_dict(load_weights(weights[-1][1]))
    classifier.module.eval()
    return classifier


def evaluate_on(
    run_folder: str | Path, data: str, *, progress: Progress | None = None
) -> Evaluation:
    """Return how a run's classifier does on all pictures at `data`, whatever their split.

    Raises:
        DataError: the pictures' classes are not among the classifier's.
    """
    classifier = load_classifier(run_folder)
    with (progress or SilentProgress()).stage("read pictures", None, "pictures"):
        splits = load_data(DataConfig(path=data), seed=0)
    parts = [
        Pixels.from_pil(
            [images.image(i) for i in range(len(images))],
            _labels_of(images, classifier),
            ids=images.ids,
            size_px=classifier.size_px,
        )
        for images in splits.by_name().values()
        if len(images)
    ]
    return evaluate(classifier, Pixels.concat(parts), "other")


def _labels_of(images: LabelledImages, classifier: Classifier) -> list[int]:
    """Return the labels of `images` in the classifier's numbering, matched by class name."""
    unknown = sorted(set(images.class_names) - set(classifier.class_names))
    if unknown:
        raise DataError(
            f"the classifier has no class {', '.join(unknown[:5])}; its classes are "
            f"{', '.join(classifier.class_names[:20])}"
        )
    number_of = {name: i for i, name in enumerate(classifier.class_names)}
    return [number_of[images.class_names[label]] for label in images.labels]
