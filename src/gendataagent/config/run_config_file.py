"""The settings of a run, in its folder."""

from __future__ import annotations

import contextlib
from pathlib import Path

from gendataagent.config import RunConfig
from gendataagent.config.paths import is_place, settings_hash, with_absolute_paths
from gendataagent.config.settings import PERMISSION, iterate_settings, read_settings_of_run
from gendataagent.core import files
from gendataagent.core.errors import ConfigError, RunFolderError, StorageError
from gendataagent.core.run_folder import RunFolder


def create_run_folder(path: str | Path, config: RunConfig) -> RunFolder:
    """Create a new run folder with `config` in it, its paths absolute.

    Raises:
        ConfigError: a setting is wrong (a config built in Python is checked here first).
        RunFolderError: the folder exists and is not empty; it is left unchanged.
        StorageError: it cannot be written; nothing is left of it.
    """
    config = with_absolute_paths(RunConfig.from_dict(config.to_dict()))
    folder = RunFolder(Path(path))
    if folder.config_file.exists():
        raise RunFolderError(
            f"{path} already holds a run; resume it with: gendataagent run --resume {path}, or "
            "name another folder with --out"
        )
    try:
        created = not folder.path.exists()
        if not created and not files.holds_nothing(folder.path):
            raise RunFolderError(
                f"{path} exists and is not empty; name a new or an empty folder with --out"
            )
        files.make_folder(folder.path)
    except OSError as error:
        raise StorageError(
            f"cannot create the run folder {path}: {error.strerror or error}; name a folder that "
            "you can write to with --out"
        ) from error
    try:
        write_run_config(folder, config)
    except StorageError as error:
        if created:
            with contextlib.suppress(OSError):
                folder.path.rmdir()
        raise StorageError(
            f"cannot write {folder.config_file}: {error.__cause__ or error}. Nothing was started; "
            "free some space or fix the permissions, then give the same command again"
        ) from error
    return folder


def read_run_config(folder: RunFolder, *, trust_remote_code: bool = False) -> RunConfig:
    """Return the settings of a run.

    Args:
        trust_remote_code: whether code of its models may be run; what its file says of that is
            ignored, because the folder may come from someone else.
    """
    tree = read_settings_of_run(folder.config_file)
    try:
        return RunConfig.from_dict({**tree, PERMISSION: trust_remote_code})
    except ConfigError as error:
        raise ConfigError(
            [f"{folder.config_file}: {problem}" for problem in error.problems]
        ) from error


def write_run_config(folder: RunFolder, config: RunConfig) -> None:
    """Replace the settings, for a resume that changes speed or paths but not the results."""
    files.write_bytes(folder.config_file, config.to_toml().encode())


def check_unchanged(folder: RunFolder, config: RunConfig, config_hash: str) -> None:
    """Raise `RunFolderError` if a run's settings are not those that its manifest has the hash of.

    Paths and settings that change only speed do not count.
    """
    if config_hash != settings_hash(config):
        raise RunFolderError(
            f"{folder.config_file} has changed since the run was started, in a setting that "
            "changes results. Put it back from a copy, or start a new run with --out"
        )


def check_same_settings(folder: RunFolder, config: RunConfig) -> None:
    """Raise `RunFolderError` naming each setting of `config` that would change the results.

    Two paths may differ: whether their content is the same is checked where it is read.
    """
    own = {row.key: row for row in iterate_settings(read_run_config(folder))}
    changed = [
        f"{row.key} is {own[row.key].value!r} there, not {row.value!r}"
        for row in iterate_settings(config)
        if row.setting.affects_results
        and row.value != own[row.key].value
        and not (is_place(row) and is_place(own[row.key]))
    ]
    if changed:
        raise RunFolderError(
            f"the run in {folder.path} was started with other settings: {'; '.join(changed)}. "
            "Only settings that do not affect results may change; start a new run with --out"
        )
