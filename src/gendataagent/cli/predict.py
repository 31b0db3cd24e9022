"""`gendataagent predict`: the classes of images by a run's classifier."""

from __future__ import annotations

import glob
import json
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from gendataagent.cli.console import ConsoleProgress, show, write
from gendataagent.cli.shared import TrustOption, app
from gendataagent.core.errors import DataError
from gendataagent.core.text import as_name, counted

if TYPE_CHECKING:
    from gendataagent.training.prediction import Prediction

PATH_LETTERS = 4096


@app.command()
def predict(
    run: Annotated[Path, typer.Argument(help="folder of a finished run, or its classifier folder")],
    images: Annotated[
        list[str],
        typer.Argument(help="image files, folders or patterns like 'in/*.jpg'"),
    ],
    top: Annotated[int, typer.Option(min=1, help="classes to print for each image")] = 1,
    as_json: Annotated[
        bool, typer.Option("--json", help="print one JSON object a line and nothing else")
    ] = False,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, mps")] = "auto",
    trust_remote_code: TrustOption = False,
) -> None:
    """Classify images: print file, class and probability.

    For example: gendataagent predict runs/demo photos/ --top 3

    Folders are searched with their subfolders. An image that cannot be read is reported on standard
    error, the others are still classified, and the exit code is 1.
    """
    paths = find_images(images)
    from gendataagent.runs.reload import load_classifier
    from gendataagent.training.prediction import predict_files

    classifier = load_classifier(run, device=device, trust_remote_code=trust_remote_code)
    progress = ConsoleProgress()
    unreadable: list[Path] = []

    def report(path: Path, reason: str) -> None:
        unreadable.append(path)
        name = as_name(str(path), letters_at_most=PATH_LETTERS)
        progress.say(f"cannot read {name}: {reason}")

    with progress.stage("predict", len(paths), "images") as stage:
        found = predict_files(
            classifier, paths, top=top, on_unreadable=report, on_batch=stage.advance
        )
        if as_json:
            for prediction in found:
                write(_json_line(prediction))
        else:
            predictions = list(found)
    if not as_json:
        show(_table(predictions))
    if unreadable:
        progress.say(
            f"{len(unreadable)} of {counted(len(paths), 'image', 'images')} could not be read"
        )
        raise typer.Exit(1)


def find_images(arguments: Sequence[str]) -> list[Path]:
    """Return the files of paths, folders and patterns, each once; a folder's in order of name.

    Raises:
        DataError: a folder or a pattern has no images.
    """
    found: dict[Path, None] = {}
    for argument in arguments:
        path = Path(argument)
        if _is_folder(path):
            inside = _images_below(path)
        elif not os.path.exists(path) and glob.has_magic(argument):
            inside = _images_in(map(Path, glob.glob(argument, recursive=True)))
        else:
            inside = [path]  # if it is not there, it is reported as any unreadable image
        if not inside:
            raise DataError(f"there are no images in {argument}")
        found.update(dict.fromkeys(inside))
    return list(found)


def _is_folder(path: Path) -> bool:
    return os.path.isdir(path)  # unlike Path.is_dir, False for a name that cannot be


def _images_below(folder: Path) -> list[Path]:
    """Return the images below a folder, as training reads it: no thumbnails, each folder once."""
    from gendataagent.data.decoding.images import SUFFIXES
    from gendataagent.data.formats.walk import find_files

    found = find_files(folder)
    unreadable = [bad.name for bad in found.quarantined]  # reported when they are opened
    names = [*found.images, *(n for n in unreadable if Path(n).suffix.lower() in SUFFIXES)]
    return sorted(folder / name for name in names)


def _images_in(paths: Iterable[Path]) -> list[Path]:
    from gendataagent.data.decoding.images import SUFFIXES

    return sorted(path for path in paths if path.suffix.lower() in SUFFIXES and path.is_file())


def _json_line(prediction: Prediction) -> str:
    (name, probability), *_ = prediction.classes
    row = {
        "file": str(prediction.path),
        "class": name,
        "probability": probability,
        "top": [{"class": name, "probability": share} for name, share in prediction.classes],
    }
    return json.dumps(row)  # in ASCII, which every stream can take


def _table(predictions: Sequence[Prediction]) -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column("file", overflow="fold")
    table.add_column("class", overflow="fold")
    table.add_column("probability", justify="right")
    for prediction in predictions:
        for rank, (name, probability) in enumerate(prediction.classes):
            file = "" if rank else as_name(str(prediction.path), letters_at_most=PATH_LETTERS)
            table.add_row(file, as_name(name), f"{probability:.1%}")
    return table
