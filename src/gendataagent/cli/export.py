"""`gendataagent export` and `export-data`: a run's classifier or images for other software."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gendataagent.cli.console import ConsoleProgress, say
from gendataagent.cli.shared import TrustOption, app
from gendataagent.core.errors import ConfigError

MovedOption = Annotated[
    str | None, typer.Option("--data", help="where the run's images are now, if they have moved")
]
PushOption = Annotated[
    str | None,
    typer.Option("--push-to-hub", metavar="ID", help="also upload it to the Hugging Face Hub"),
]
PublicOption = Annotated[
    bool, typer.Option("--public", help="with --push-to-hub: a repository that everyone can read")
]


@app.command()
def export(
    run: Annotated[Path, typer.Argument(help="folder of a finished run, or its classifier folder")],
    to: Annotated[str, typer.Option(help="onnx, torchscript or safetensors")],
    out: Annotated[Path, typer.Option(help="new folder; an unchanged earlier export is replaced")],
    data: MovedOption = None,
    images: Annotated[
        Path | None, typer.Option(help="check the export on these images, not on the run's")
    ] = None,
    push_to_hub: PushOption = None,
    public: PublicOption = False,
    trust_remote_code: TrustOption = False,
) -> None:
    """Write the classifier of a run as a model that runs without this package.

    For example: gendataagent export runs/first --to onnx --out classifier-onnx

    The folder has the model, preprocessing.json (sizes, colours, class names) and a model card. The
    model is compared with the original on test images, and the largest difference is printed.
    """
    from gendataagent.runs.exporting.models import export_model
    from gendataagent.runs.exporting.upload import MODEL

    _check_push(push_to_hub, public, MODEL)
    exported = export_model(
        run,
        to,
        out,
        data=data,
        images=images,
        trust_remote_code=trust_remote_code,
        progress=ConsoleProgress(),
    )
    say(exported.check.sentence)
    say(f"written: {exported.file}; how to use it: {exported.path / 'README.md'}")
    _push(exported.path, push_to_hub, public, MODEL)


@app.command("export-data")
def export_data(
    run: Annotated[Path, typer.Argument(help="run folder, finished or not, or an agent's folder")],
    to: Annotated[str, typer.Option(help="imagefolder, parquet, webdataset, coco or csv")],
    out: Annotated[Path, typer.Option(help="new folder; an unchanged earlier export is replaced")],
    only: Annotated[str, typer.Option(help="kept: the synthetic images alone")] = "",
    data: MovedOption = None,
    push_to_hub: PushOption = None,
    public: PublicOption = False,
) -> None:
    """Write the images of a run, real and kept synthetic ones, as a labelled data set.

    For example: gendataagent export-data runs/first --to parquet --out fruit-parquet

    The folder has a data card: sources, counts, generator, terms, near-duplicates of held-out
    images and memorisation. Real images are written without EXIF data.
    """
    from gendataagent.runs.exporting.datasets import export_data as write
    from gendataagent.runs.exporting.upload import DATASET

    _check_push(push_to_hub, public, DATASET)
    exported = write(run, to, out, only=only, data=data, progress=ConsoleProgress())
    for note in exported.notes:
        say(note)
    say(
        f"written: {exported.path} ({exported.real:,} real and {exported.synthetic:,} synthetic "
        f"images); its card: {exported.path / 'README.md'}"
    )
    _push(exported.path, push_to_hub, public, DATASET)


def _check_push(repo: str | None, public: bool, kind: str) -> None:
    from gendataagent.runs.exporting.upload import check_upload

    if repo is not None:
        check_upload(repo, kind)
    elif public:
        raise ConfigError("--public is for what --push-to-hub ID uploads; add it")


def _push(path: Path, repo: str | None, public: bool, kind: str) -> None:
    if repo is not None:
        from gendataagent.runs.exporting.upload import upload

        say(f"uploaded: {upload(path, repo, kind, private=not public)}")
