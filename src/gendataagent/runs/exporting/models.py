"""Export of a run's classifier: written, read back, compared with the original, described."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from gendataagent.config import DataConfig
from gendataagent.config.run_config_file import read_run_config
from gendataagent.core import files
from gendataagent.core.errors import ConfigError, RunFolderError
from gendataagent.core.progress import Progress, SilentProgress, counting
from gendataagent.core.run_folder import RunFolder
from gendataagent.core.suggestions import did_you_mean
from gendataagent.data import LabelledImages
from gendataagent.data.generator_corpus import load_generator_corpus
from gendataagent.data.pixels import Pixels
from gendataagent.runs.exporting.model_card import CARD_FILE, model_card
from gendataagent.runs.exporting.model_check import Check, check_model
from gendataagent.runs.exporting.model_formats import MODEL_FORMATS
from gendataagent.runs.exporting.place import check_place, export_folder
from gendataagent.runs.exporting.preprocessing import PREPROCESSING_FILE, preprocessing
from gendataagent.runs.exporting.run_facts import RunFacts
from gendataagent.runs.reload import load_classifier
from gendataagent.runs.splits import read_splits

MOST_CHECKED = 512  # images


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportedModel:
    """Where a model was exported to, and how near it is to the original."""

    path: Path
    file: Path
    check: Check


def export_model(
    run: str | Path,
    to: str,
    out: str | Path,
    *,
    data: str | None = None,
    images: str | Path | None = None,
    trust_remote_code: bool = False,
    progress: Progress | None = None,
) -> ExportedModel:
    """Write the classifier of a finished run to the folder `out` in another format.

    Args:
        run: a run folder, or the classifier folder of one, which needs `images`.
        to: a key of `MODEL_FORMATS`.
        data: where the run's images are, if not where the run read them.
        images: check the model on these instead: a folder of images, or parquet.
        trust_remote_code: as `load_classifier`.

    Raises:
        ConfigError: no such format, or nothing to check the model on.
        RunFolderError: the run is not finished; or `out` holds something else.
        ModelError: libraries are missing, or the exported model differs from the original.
        DataError: the images cannot be read.
    """
    if to not in MODEL_FORMATS:
        raise ConfigError(f"--to {to}: {did_you_mean(to, MODEL_FORMATS)}")
    form = MODEL_FORMATS[to]()
    form.check_installed()
    path = check_place(out, run)
    progress = progress or SilentProgress()
    classifier = load_classifier(run, device="cpu", trust_remote_code=trust_remote_code)
    checked, source = _images_to_check(Path(run), data, images, progress)
    with progress.stage("decode", len(checked), "images") as stage:
        pixels = Pixels.from_images(checked, classifier.resize_px, progress=counting(stage))
    folder = RunFolder(Path(run))
    facts = RunFacts.of(folder) if folder.config_file.is_file() else None
    record = {"what": "model", "format": to, "run": facts.run if facts else ""}
    with progress.stage(f"export to {to}", None), export_folder(path, record) as aside:
        form.write(classifier, aside)
        about = preprocessing(classifier, normalised_by_the_model=form.normalises)
        files.write_json(aside / PREPROCESSING_FILE, about)
        check = check_model(classifier, form.read(aside), pixels, source)
        card = model_card(to, classifier, facts, check, aside)
        files.write_bytes(aside / CARD_FILE, card.encode())
    return ExportedModel(path=path, file=path / form.file, check=check)


def _images_to_check(
    run: Path, data: str | None, images: str | Path | None, progress: Progress
) -> tuple[LabelledImages, str]:
    """Return at most `MOST_CHECKED` images, evenly spaced, and what they are in words."""
    if images is not None:
        folder = RunFolder(run)
        columns = read_run_config(folder).data if folder.config_file.is_file() else DataConfig()
        with progress.stage("read images", None, "images") as stage:
            found = load_generator_corpus(images, columns, progress=counting(stage)).images
        return _some(found), f"images of {Path(images).name}"
    if not RunFolder(run).config_file.is_file():
        raise ConfigError(
            f"{run} is a classifier without its run, so there are no images to check the export "
            "on; name some with --images DIR"
        )
    splits = read_splits(run, data=data, progress=progress)
    for name in ("test", "validation", "train"):
        if len(found := splits.by_name()[name]):
            return _some(found), f"{name} images of the run"
    raise RunFolderError(f"the run in {run} has no images; name some with --images DIR")


def _some(images: LabelledImages) -> LabelledImages:
    count = min(MOST_CHECKED, len(images))
    return images.subset(i * len(images) // count for i in range(count))
