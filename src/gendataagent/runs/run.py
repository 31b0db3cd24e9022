"""A complete run: from data to a trained classifier, a pool of images and their records.

`run` starts one; `resume` continues one that was stopped, however it was stopped.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from gendataagent.agent.decisions import with_threads
from gendataagent.agent.steps import without_agent
from gendataagent.config import AUTO, RunConfig
from gendataagent.config.decided import as_decided
from gendataagent.config.paths import with_absolute_paths, with_paths_of
from gendataagent.config.run_config_file import (
    check_same_settings,
    create_run_folder,
    read_run_config,
    write_run_config,
)
from gendataagent.core.completeness import collect_unchecked
from gendataagent.core.devices import cpu_threads, repeatable_kernels, resolve_device
from gendataagent.core.errors import GenDataAgentError, StorageError
from gendataagent.core.launch import check_started_once
from gendataagent.core.progress import Progress, SilentProgress
from gendataagent.core.run_folder import RunFolder
from gendataagent.data import check_path
from gendataagent.generation.backends import Backends, with_backends_chosen
from gendataagent.runs.conclusion import conclude
from gendataagent.runs.destinations import check_destinations, destinations, remember
from gendataagent.runs.identity import move_finished
from gendataagent.runs.loop import train
from gendataagent.runs.planning.counts import count_listed
from gendataagent.runs.planning.outlook import outlook
from gendataagent.runs.preflight import check_models, check_tracker
from gendataagent.runs.results import RunResult, read_result
from gendataagent.runs.session import Session, prepare
from gendataagent.runs.tracking import tracking

if TYPE_CHECKING:
    pass


def run(
    config: RunConfig,
    out: str | Path,
    *,
    backends: Backends | None = None,
    progress: Progress | None = None,
) -> RunResult:
    """Train a classifier with the agent as `config` says; everything is written to `out`.

    Args:
        out: a folder that does not exist yet, or an empty one.
        backends: your own models instead of those that the settings name.

    Raises:
        GenDataAgentError: its message says what to do. Finished work is kept; `resume(out)`
            continues from there.
    """
    check_started_once()
    config = with_threads(config)
    remember(config)
    folder = create_run_folder(out, config)
    try:
        own = read_run_config(folder, trust_remote_code=config.trust_remote_code)
        return _run(folder, own, backends, progress or SilentProgress())
    except StorageError:
        raise  # all is kept for --resume, as its message says
    except GenDataAgentError:
        folder.discard_if_unstarted()
        raise


def resume(
    out: str | Path,
    *,
    config: RunConfig | None = None,
    backends: Backends | None = None,
    progress: Progress | None = None,
    trust_remote_code: bool = False,
    named: Collection[str] | None = None,
) -> RunResult:
    """Resume the run in `out` after its last complete step; a finished run is only read.

    Args:
        config: new settings; they may differ only in what does not affect results (device,
            workers, ...), and in paths at which the same content is. What was left to decide
            (auto, threads = 0) stays as decided.
        trust_remote_code: whether Python code that comes with its models may be run; what the
            run's folder says of that is ignored.
        named: settings whose addresses on other machines this call vouches for, though no run of
            this user was started with them; None = all of them, if `config` is given.

    Raises:
        ConfigError: captions, images or a key would be sent to an address that only the run's
            folder names.
        RunFolderError: `out` is not a run folder, or `config` would change the results.
    """
    check_started_once()
    folder = RunFolder.open(out)
    progress = progress or SilentProgress()
    trusted = trust_remote_code or (config is not None and config.trust_remote_code)
    own = read_run_config(folder, trust_remote_code=trusted)
    if named is not None or config is not None:
        remember(config or own, named)
    if not folder.is_done:
        check_destinations(folder, config or own)
    if config is None:
        return _run(folder, own, backends, progress)
    config = as_decided(with_absolute_paths(config), own)
    config = replace(config, trust_remote_code=trusted)
    check_same_settings(folder, config)
    before, now = own.training.processes, config.training.processes
    if before != now and not folder.is_done:
        progress.say(
            f"training.processes was {before}, is {now}: from here on, results are the same as "
            "before up to rounding, not to the bit"
        )
    moved = config != with_paths_of(config, own)
    if not moved or not folder.manifest_file.exists():
        write_run_config(folder, config)
    elif folder.is_done:
        move_finished(folder, config, progress)
    return _run(folder, config, backends, progress)


def run_until(
    config: RunConfig, out: str | Path, epoch: int, *, progress: Progress | None = None
) -> None:
    """Train `epoch` epochs and stop before a round that is due then; `resume` continues.

    Runs with the same training up to that epoch can start from copies of one folder.

    Raises:
        GenDataAgentError: as `run`.
    """
    folder = RunFolder(Path(out))
    config = with_threads(config)
    if not folder.config_file.exists():
        create_run_folder(out, config)
    own = read_run_config(folder, trust_remote_code=config.trust_remote_code)
    with folder.lock(), cpu_threads(own.threads), repeatable_kernels():
        train(prepare(folder, own, None, progress or SilentProgress()), epoch)


def _run(
    folder: RunFolder,
    config: RunConfig,
    backends: Backends | None,
    progress: Progress,
    *,
    parent: RunFolder | None = None,
) -> RunResult:
    with folder.lock(), cpu_threads(config.threads), repeatable_kernels():
        if not folder.is_done:
            check_path(config.data)
            check_tracker(config)
            for place in destinations(config):
                if parent is None:
                    progress.say(place.sentence)
            with progress.stage("check models"), collect_unchecked() as unchecked:
                checked = check_models(config, backends)
            for sentence in unchecked:
                if parent is None:  # else it has been said
                    progress.say(sentence)
            if parent is None and not folder.manifest_file.exists():
                config = _look_ahead(folder, config, backends, progress)
        if config.agent.trains_baseline:
            _run_baseline(folder, config, progress)
        if not folder.is_done:
            own = backends is not None
            session = prepare(folder, config, checked, progress, own_backends=own)
            _train_and_evaluate(session, more_follows=parent is not None)
    return read_result(folder.path)


def _look_ahead(
    folder: RunFolder, config: RunConfig, backends: Backends | None, progress: Progress
) -> RunConfig:
    """Say what is known before anything is spent; return the settings with the guard decided."""
    generator = None
    if config.agent.enabled and backends:
        generator = backends.generator.describe().name
    elif config.agent.enabled:
        chosen = with_backends_chosen(config, resolve_device(config.device))
        generator = chosen.generation.generator
    ahead = outlook(config, count_listed(config), generator)
    for sentence in ahead.sentences:
        progress.say(sentence)
    if ahead.config != config:
        write_run_config(folder, ahead.config)
    return ahead.config


def _run_baseline(folder: RunFolder, config: RunConfig, progress: Progress) -> None:
    """Run the same training without the agent, in a run folder inside this one."""
    without = without_agent(config)
    if RunFolder(folder.baseline).config_file.exists():
        inner = RunFolder.open(folder.baseline)
    else:
        inner = create_run_folder(folder.baseline, without)
    if not inner.is_done:
        progress.say("training the baseline first: the same training without the agent")
    settings = read_run_config(inner, trust_remote_code=config.trust_remote_code)
    if config.training.processes != AUTO:  # a resume may have changed it
        training = replace(settings.training, processes=config.training.processes)
        settings = replace(settings, training=training)
    _run(inner, with_paths_of(settings, without), None, progress, parent=folder)


def _train_and_evaluate(session: Session, *, more_follows: bool) -> None:
    """Train to the last epoch, asking the agent for images on the way; then evaluate once.

    Args:
        more_follows: whether this is the first of two trainings.
    """
    epochs, class_names = session.config.training.epochs, session.splits.train.class_names
    with tracking(session.config, session.folder, class_names, session.progress) as follower:
        train(session, epochs, follower, more_follows=more_follows)
        follower.result(conclude(session), epochs)
    session.folder.mark_done()
