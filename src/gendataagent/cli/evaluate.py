"""`gendataagent evaluate`: measures of a finished run's classifier, also on other images."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from gendataagent.cli.console import ConsoleProgress, say, show
from gendataagent.cli.shared import TrustOption, app, print_result
from gendataagent.config.settings import apply_overrides
from gendataagent.core.errors import ConfigError
from gendataagent.core.text import as_name, counted, whole_number

if TYPE_CHECKING:
    from gendataagent.core.records import Evaluation
    from gendataagent.runs.reload import OtherImages
    from gendataagent.training.evaluation import Robustness

ALL_SEVERITIES = "1-5"
HIGHEST = 5


@app.command()
def evaluate(
    run_folder: Annotated[Path, typer.Argument(help="folder of a finished run")],
    data: Annotated[str | None, typer.Option(help="other labelled images to evaluate on")] = None,
    image_root: Annotated[
        str, typer.Option(help="folder of the images that a table of --data names by path")
    ] = "",
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="data.KEY=VALUE",
            help="how --data is read, such as data.class_folder=last; may be repeated",
        ),
    ] = None,
    corruptions: Annotated[
        str | None,
        typer.Option(help="corrupt the images first: gaussian_blur,speckle_noise"),
    ] = None,
    severity: Annotated[
        str | None, typer.Option(help="severities, such as 1-5 (the default), 3, or 1,3")
    ] = None,
    trust_remote_code: TrustOption = False,
) -> None:
    """Evaluate a run's classifier on its test split, or on other images.

    The test split was measured once, when the run ended; this prints those results. Only
    --corruptions reads it again, to report on the finished classifier.
    """
    settings = _data_settings(set_ or [], data)
    if corruptions is not None:
        named = [name.strip() for name in corruptions.split(",")]
        names = [name for name in dict.fromkeys(named) if name]
        severities = parse_severities(severity or ALL_SEVERITIES)
        _evaluate_corrupted(
            run_folder,
            names,
            severities,
            data=data,
            image_root=image_root,
            settings=settings,
            trust_remote_code=trust_remote_code,
        )
        return
    if severity is not None:
        raise ConfigError("--severity needs --corruptions gaussian_blur,speckle_noise; add it")
    from gendataagent.core.run_folder import RunFolder
    from gendataagent.data.synthetic_marks import is_held_out_note
    from gendataagent.runs.results import read_result

    result = read_result(run_folder)
    if data is None:
        print_result(result)
        for note in RunFolder.open(run_folder).read_manifest().notes:
            if is_held_out_note(note):
                say(note)
        return
    from gendataagent.runs.reload import evaluate_parts

    found = evaluate_parts(
        run_folder,
        data,
        image_root=image_root,
        settings=settings,
        progress=ConsoleProgress(),
        trust_remote_code=trust_remote_code,
    )
    say(_in_words(found.every, "image" if found.every.images == 1 else "images"))
    _say_parts(found)


def _data_settings(overrides: list[str], data: str | None) -> dict[str, Any]:
    """Return the settings of [data] in `overrides`; raise `ConfigError` for all others."""
    tree = apply_overrides({}, overrides)
    found = tree.pop("data", {})
    if tree or not isinstance(found, dict) or "path" in found:
        raise ConfigError(
            "evaluate --set is for how --data is read, such as --set data.class_folder=last; other "
            "settings are those of the run, and the place of the images is --data"
        )
    if found and data is None:
        raise ConfigError("evaluate --set needs --data DIR, the images that it says how to read")
    return found


def _in_words(evaluation: Evaluation, what: str) -> str:
    return (
        f"{counted(evaluation.images, what, what)}: top-1 {evaluation.top1:.1%}, worst class "
        f"{as_name(evaluation.worst_class)}{evaluation.others_as_bad} "
        f"{evaluation.worst_class_accuracy:.1%}, worst-case disparity "
        f"{evaluation.worst_case_disparity:.2f}"
    )


def _say_parts(found: OtherImages) -> None:
    """Print the figures of images that the run has seen apart from those that it has not."""
    from gendataagent.data.index import TRAIN, VALIDATION
    from gendataagent.runs.reload import UNSEEN

    seen = {
        TRAIN: "that the run was trained on",
        VALIDATION: "that the run was validated on while training",
    }
    parts = [part for part in seen if part in found.parts]
    if not parts:
        return
    for part in parts:
        say(f"  {_in_words(found.parts[part], seen[part])}")
    if UNSEEN in found.parts:
        say(f"  {_in_words(found.parts[UNSEEN], 'others')}. These show what it does on new images")
    else:
        say("  None is new to the run: these figures do not show what it does on new images")


def parse_severities(text: str) -> list[int]:
    """Return the severities of "1-5", "3" or "1,3-4", each once, in order.

    Raises:
        ConfigError: it is not of that form, or outside 1 to 5.
    """
    found: set[int] = set()
    for part in text.split(","):
        first, dash, last = (word.strip() for word in part.partition("-"))
        last = last if dash else first
        low, high = whole_number(first), whole_number(last)
        if low is None or high is None:
            raise ConfigError(f"--severity must be like 1-5, 3 or 1,3; got {text[:40]!r}")
        if not 1 <= low <= high <= HIGHEST:
            raise ConfigError(f"--severity must be from 1 to {HIGHEST}; got {part.strip()!r}")
        found.update(range(low, high + 1))
    return sorted(found)


def _evaluate_corrupted(
    run_folder: Path, names: list[str], severities: list[int], **options: Any
) -> None:
    from gendataagent.data.index import TEST
    from gendataagent.runs.reload import ROBUSTNESS_FILE, evaluate_corrupted

    robustness = evaluate_corrupted(
        run_folder, names, severities, progress=ConsoleProgress(), **options
    )
    show(_table(robustness, severities))
    own = robustness.clean.split == TEST
    say(
        f"{counted(robustness.clean.images, 'image', 'images')} of "
        f"{'the test split' if own else 'all splits'}, read from {robustness.images_from}; "
        f"classified at {robustness.size_px} px, constants for {robustness.table_px} px"
    )
    if own:
        say(f"written: {run_folder / ROBUSTNESS_FILE}")
    else:
        say("not saved: these are not the run's test images")


def _table(robustness: Robustness, severities: list[int]) -> Table:
    table = Table(box=None, pad_edge=False, title="top-1 by severity", title_justify="left")
    table.add_column("")
    for name in (*map(str, severities), "mean"):
        table.add_column(name, justify="right")
    clean = f"{robustness.clean.top1:.1%}"
    table.add_row("clean", *[""] * len(severities), clean)
    for name, by_severity in robustness.corrupted.items():
        cells = [f"{by_severity[severity].top1:.1%}" for severity in severities]
        table.add_row(name, *cells, f"{robustness.mean_top1(name):.1%}")
    return table
