"""One row of measures per finished run: everything the tables show."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from gendataagent.config import RunConfig
from gendataagent.config.run_config_file import read_run_config
from gendataagent.config.settings import result_settings
from gendataagent.core import files
from gendataagent.core.coverage import Coverage, mean_coverage
from gendataagent.core.errors import RunFolderError
from gendataagent.core.records import RunManifest, derive_seed
from gendataagent.core.rows import read_mapping
from gendataagent.core.run_folder import RunFolder
from gendataagent.runs.results import RunResult, read_result

if TYPE_CHECKING:
    from gendataagent.data import ImageSplits, LabelledImages
    from gendataagent.training.classifier import Classifier

CORRUPTIONS = ("gaussian_blur", "speckle_noise")
SEVERITIES = (1, 3)
COVERAGE = ("precision", "recall", "density", "coverage", "source_distance")
EXTRAS_FILE = "measures.json"
EXTRA_IMAGES = 2000  # of the test set; more would take longer than the smallest runs themselves
Row = Mapping[str, Any]


def row_of(folder: Path, *, arm: str, seed: int) -> dict[str, Any]:
    """Return the measures of a finished run.

    Shares are in [0, 1], `gap` too (train minus validation accuracy); `seconds` is the wall-clock
    time of all stages of this run (images taken from another run cost nothing); `made` is the day
    it was started; `per_class` is class -> accuracy; `settings` is a JSON object of what can change
    results, without the seed.
    """
    result = read_result(folder)
    manifest = RunFolder(folder).read_manifest()
    test = result.evaluations["test"]
    train, validation = result.evaluations["train"], result.evaluations.get("validation")
    extras = _read_extras(RunFolder(folder))
    return {
        "arm": arm,
        "seed": seed,
        "run": folder.name,
        "top1": test.top1,
        "worst_class": test.worst_class_accuracy,
        "worst_class_name": test.worst_class,
        "per_class": dict(test.per_class),
        "disparity": test.worst_case_disparity,
        "train": train.top1,
        "validation": validation.top1 if validation else None,
        "gap": train.top1 - validation.top1 if validation else None,
        "ece": test.ece,
        "loss": test.loss,
        "generated": result.images_made,
        "kept": result.images_kept,
        "optimizer_steps": result.optimizer_steps,
        "train_seconds": result.seconds.get("train", 0.0),
        "seconds": result.total_seconds,
        "made": manifest.created[:10],
        **data_of(folder, manifest),
        "device": manifest.environment.get("device"),
        "torch": manifest.environment.get("torch"),
        "settings": json.dumps(_settings(read_run_config(RunFolder(folder)))),
        **_coverage(RunFolder(folder)),
        **{name: extras.get(name) for name in _extra_names()},
    }


def _settings(config: RunConfig) -> dict[str, Any]:
    return {row.key: row.value for row in result_settings(config) if row.key != "seed"}


def _coverage(folder: RunFolder) -> dict[str, float | None]:
    """Return the means over classes, None where the run has not measured them."""
    path = folder.coverage_file
    folder.check_done(path)
    mean = mean_coverage(read_mapping(path, Coverage)) if path.exists() else None
    return {name: getattr(mean, name, None) for name in COVERAGE}


def _read_extras(folder: RunFolder) -> dict[str, Any]:
    path = folder.path / EXTRAS_FILE
    if not path.exists():
        return {}
    if damage := folder.damage(path):
        raise RunFolderError(f"{damage}; remove it, and the same command measures it again")
    return read_mapping(path)


def data_of(folder: Path, manifest: RunManifest) -> dict[str, str]:
    """Return what a run was measured and trained on: data.path, and hashes of contents."""
    rows = RunFolder(folder).recorded_images()
    return {
        "data": read_run_config(RunFolder(folder)).data.path,
        "classes": _hash(sorted(manifest.class_names)),
        "test_images": _hash(_contents(rows, "test")),
        "train_images": _hash(_contents(rows, "train")),
    }


def _contents(rows: Sequence[Row], split: str) -> list[str]:
    return sorted(f"{row['content']} {row['class']}" for row in rows if row["split"] == split)


def _hash(lines: Sequence[str]) -> str:
    return hashlib.blake2b("\n".join(lines).encode(), digest_size=8).hexdigest()


def _extra_names() -> list[str]:
    corrupted = [f"{name}_{severity}" for name in CORRUPTIONS for severity in SEVERITIES]
    return ["not_corrupted", *corrupted, "memorisation", "memorisation_without_source",
            "memorisation_control", "test_repeats_in_train",
            "test_repeats_in_synthetic"]  # fmt: skip


def measure_extras(folder: Path, *, trust_remote_code: bool = False) -> None:
    """Take the measures that a run does not take itself and write them into its folder, once.

    Robustness to blur and noise and the control of the memorisation ratio on at most
    `EXTRA_IMAGES` test images, balanced over classes; near-duplicates of all test images.

    Raises:
        RunFolderError: the run is not finished, or its images are missing or have changed.
    """
    path = folder / EXTRAS_FILE
    if path.exists():
        return
    from gendataagent.runs.reload import load_classifier
    from gendataagent.runs.splits import read_splits

    run_folder = RunFolder.open(folder)
    config: RunConfig = read_run_config(run_folder)
    result = read_result(folder)
    splits = read_splits(folder)
    classifier = load_classifier(folder, device=config.device, trust_remote_code=trust_remote_code)
    some = splits.test.subset(some_of_each_class(splits.test.labels, EXTRA_IMAGES))
    extras = {
        **_robustness(classifier, some),
        **_copying(folder, result, splits, classifier, some),
    }
    run_folder.write_json(path, extras)


def some_of_each_class(labels: Sequence[int], count: int) -> list[int]:
    """Return indices of the first images of every class, balanced, at most `count`."""
    each = max(1, count // max(1, len(set(labels))))
    met: Counter[int] = Counter()
    chosen = []
    for index, label in enumerate(labels):
        met[label] += 1
        if met[label] <= each:
            chosen.append(index)
    return chosen


def _robustness(classifier: Classifier, images: LabelledImages) -> dict[str, float]:
    """Return top-1 on the unchanged images and under each corruption and severity."""
    from gendataagent.data.pixels import Pixels
    from gendataagent.training.evaluation import evaluate_robustness

    robustness = evaluate_robustness(
        classifier,
        Pixels.from_images(images, classifier.size_px),
        "test",
        names=CORRUPTIONS,
        severities=SEVERITIES,
    )
    found = {"not_corrupted": robustness.clean.top1}
    for name, by_severity in robustness.corrupted.items():
        for severity, evaluation in by_severity.items():
            found[f"{name}_{severity}"] = evaluation.top1
    return found


def _copying(
    folder: Path,
    result: RunResult,
    splits: ImageSplits,
    classifier: Classifier,
    some_test: LabelledImages,
) -> dict[str, Any]:
    """Return the memorisation ratios and the counts of near-duplicates of test images."""
    from gendataagent.agent.pool import Pool
    from gendataagent.data.duplicates.leakage import near_duplicates
    from gendataagent.data.pixels import Pixels
    from gendataagent.training.memorisation import memorisation

    def pixels_of(images: Any) -> Pixels:
        return Pixels.from_images(images, classifier.size_px)

    train, test = pixels_of(splits.train), pixels_of(splits.test)
    found: dict[str, Any] = {"test_repeats_in_train": len(near_duplicates(train, test).ids)}
    run_folder = RunFolder.open(folder)
    made = Pool(run_folder, splits.class_names).kept([record.round for record in result.rounds])
    if not len(made):
        return found
    synthetic = pixels_of(made)
    found["test_repeats_in_synthetic"] = len(near_duplicates(synthetic, test).ids)
    if len(splits.validation):
        ratios = memorisation(
            classifier,
            synthetic,
            [candidate.source_id for candidate in made.candidates],
            train=train,
            held_out=pixels_of(splits.validation),
            control=pixels_of(some_test),
            seed=derive_seed(read_run_config(RunFolder.open(folder)).seed, "memorisation"),
        )
        found["memorisation"] = ratios.ratio
        found["memorisation_without_source"] = ratios.without_source
        found["memorisation_control"] = ratios.control
    return found


def write_rows(rows: Sequence[Row], path: Path) -> None:
    """Write rows as parquet, atomically."""
    with files.atomic_writer(path) as stream:
        pq.write_table(pa.Table.from_pylist([dict(row) for row in rows]), stream)


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Return the rows of `write_rows`; raise `RunFolderError` if the file cannot be read."""
    try:
        rows: list[dict[str, Any]] = pq.read_table(path).to_pylist()
    except (OSError, pa.ArrowInvalid) as error:
        raise RunFolderError(f"cannot read the results in {path}: {error}") from error
    return rows


def rows_of_runs(folders: Sequence[Path]) -> list[dict[str, Any]]:
    """Return a row for each finished run.

    Runs whose settings differ only in the seed are one arm, named after the folder of the first.

    Raises:
        RunFolderError: a folder is no run, or not finished.
    """
    arms: dict[str, str] = {}
    rows = []
    for folder in folders:
        config = read_run_config(RunFolder.open(folder))
        kind = replace(config, seed=0).results_hash()
        arm = arms.setdefault(kind, folder.name)
        rows.append(row_of(folder, arm=arm, seed=config.seed))
    return rows
