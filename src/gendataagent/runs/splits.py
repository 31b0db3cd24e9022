"""The real images of a run, split as the run split them."""

from __future__ import annotations

from pathlib import Path

from gendataagent.config.run_config_file import read_run_config
from gendataagent.core.errors import DataError, RunFolderError
from gendataagent.core.progress import Progress, SilentProgress, counting
from gendataagent.core.records import RunManifest
from gendataagent.core.rows import read_record
from gendataagent.core.run_folder import RunFolder
from gendataagent.data import ImageSplits, load_data


def read_splits(run_folder: str | Path, *, progress: Progress | None = None) -> ImageSplits:
    """Return train, validation and test of a run: the same images, whichever way they were drawn.

    To train on a run's images, use `.train`, so that its test images stay unseen.

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
    try:
        with (progress or SilentProgress()).stage("read images", None, "images") as stage:
            splits = load_data(config.data, seed=config.seed, progress=counting(stage))
    except DataError as error:
        raise DataError(
            f"the images of the run in {folder.path} cannot be read where it had them "
            f"({config.data.path}): {error}. If they have moved, name their place with --data"
        ) from error
    if splits.fingerprint != read_record(RunManifest, folder.manifest_file).data_fingerprint:
        raise RunFolderError(
            f"the images at {config.data.path} are not those the run in {folder.path} was made "
            "with (their ids or labels differ); put them back, or name their place with --data"
        )
    return splits
