"""The real images of a run, split as the run split them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from gendataagent.config.run_config_file import read_run_config
from gendataagent.core.errors import DataError, RunFolderError
from gendataagent.core.progress import Progress, SilentProgress, counting
from gendataagent.core.run_folder import RunFolder
from gendataagent.data import ImageSplits, load_data
from gendataagent.data.identity import as_recorded


def read_splits(
    run_folder: str | Path, *, data: str | None = None, progress: Progress | None = None
) -> ImageSplits:
    """Return train, validation and test of a run: the same images, whichever way they were drawn.

    To train on a run's images, use `.train`, so that its test images stay unseen.

    Args:
        data: where the images are, if not where the run read them.

    Raises:
        RunFolderError: no run was started there, or the images have changed since.
        DataError: the images are not where the run read them.
    """
    folder = RunFolder.open(run_folder)
    if not folder.manifest_file.exists():
        raise RunFolderError(
            f"{run_folder} has settings but no data: no run was started there. Start one with: "
            f"gendataagent run --resume {run_folder}"
        )
    config = read_run_config(folder)
    settings = config.data if data is None else replace(config.data, path=data)
    try:
        with (progress or SilentProgress()).stage("read images", None, "images") as stage:
            splits = load_data(settings, seed=config.seed, progress=counting(stage))
    except DataError as error:
        raise DataError(
            f"the images of the run in {folder.path} cannot be read where it had them "
            f"({settings.path}): {error}. If they have moved, name their place with --data"
        ) from error
    return as_recorded(
        splits,
        folder.recorded_images(),
        place=settings.path,
        whose=f"the run in {folder.path}",
    )
