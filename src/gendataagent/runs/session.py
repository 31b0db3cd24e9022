"""A run in progress: its settings resolved and written, its data and models loaded.

`prepare` starts a new one, or restores the last checkpoint of one that was stopped.
"""

from __future__ import annotations

import datetime
from dataclasses import dataclass, field, replace

from gendataagent.agent.agent import Agent
from gendataagent.agent.decisions import with_processes_decided
from gendataagent.agent.synthetic import SyntheticImages
from gendataagent.config import AUTO, RunConfig
from gendataagent.config.paths import settings_hash
from gendataagent.config.run_config_file import read_run_config, write_run_config
from gendataagent.core.checkpoints import load_latest
from gendataagent.core.devices import resolve_device
from gendataagent.core.environment import environment, other_environment
from gendataagent.core.progress import Progress, Stopwatch, counting
from gendataagent.core.records import EpochMetrics, RunManifest, derive_seed
from gendataagent.core.rows import fit
from gendataagent.core.run_folder import DONE, RunFolder
from gendataagent.data import ImageSplits, load_data, median_side_px
from gendataagent.data.duplicates.leakage import LeakageCheck
from gendataagent.data.identity import as_recorded
from gendataagent.data.pixels import Pixels
from gendataagent.generation.adaptation import adapt
from gendataagent.generation.backends import (
    Backends,
    build_backends,
    with_adapted,
    with_decided_generator,
)
from gendataagent.runs.baseline_guard import BaselineGuard
from gendataagent.runs.identity import (
    check_same_models,
    classifier_description,
    text_model_description,
)
from gendataagent.runs.preflight import resolve_auto
from gendataagent.training.backbones import build_classifier
from gendataagent.training.classifier import Classifier
from gendataagent.training.team import Team
from gendataagent.training.trainer import Trainer


@dataclass(slots=True, kw_only=True)
class Session:
    """The parts and the state of a run in progress."""

    folder: RunFolder
    config: RunConfig
    splits: ImageSplits
    classifier: Classifier
    trainer: Trainer
    team: Team | None
    agent: Agent | None
    real: Pixels
    validation: Pixels
    guard: BaselineGuard | None
    progress: Progress
    watch: Stopwatch
    metrics: list[EpochMetrics] = field(default_factory=list)
    synthetic: tuple[SyntheticImages, Pixels] | None = None


def prepare(
    folder: RunFolder,
    config: RunConfig,
    backends: Backends | None,
    progress: Progress,
    *,
    own_backends: bool = False,
) -> Session:
    """Load the data and the models, and restore the last checkpoint if there is one.

    Args:
        backends: None = those the settings name.
        own_backends: whether they are the caller's, which the settings do not change.
    """
    device = resolve_device(config.device)
    if not folder.manifest_file.exists():
        config = _as_baseline(folder, config)
    config = with_processes_decided(config, device)
    watch = Stopwatch(folder.read_timing())
    with (
        watch.measure("load data"),
        progress.stage("read images", None, "images") as stage,
        progress.stage("near-duplicates", None, "images") as search,
    ):
        splits = load_data(
            config.data,
            seed=config.seed,
            progress=counting(stage),
            on_search=counting(search),
        )
    splits = _as_started(folder, config, splits)
    config, backends = _begin_or_check(
        folder, config, splits, backends, device, progress, own_backends=own_backends
    )
    classifier = build_classifier(
        config.classifier,
        splits.train.class_names,
        seed=derive_seed(config.seed, "classifier"),
        device=device,
        trust_remote_code=config.trust_remote_code,
    )
    if classifier.note:
        _note(folder, classifier.note, progress)
    processes = int(config.training.processes)
    team = Team(processes, classifier.device) if processes > 1 else None
    trainer = Trainer(classifier, config.training, seed=config.seed, partners=team)
    with watch.measure("load data"):
        real = Pixels.from_images(splits.train, trainer.augmenter.stored_px)
        validation = Pixels.from_images(splits.validation, trainer.augmenter.stored_px)
    guard = BaselineGuard(folder, config, validation) if config.agent.is_guarded else None
    agent = None
    if backends is not None and config.agent.enabled:
        if config.adaptation.enabled:
            backends = _adapt(folder, config, splits, backends, device, watch, progress)
        agent = Agent(
            config,
            splits.train,
            folder,
            backends,
            pixels=real,
            validation=validation,
            trainer=trainer,
            held_out=LeakageCheck.of(splits, config.data),
            progress=progress,
        )
    session = Session(
        folder=folder,
        config=config,
        splits=splits,
        classifier=classifier,
        trainer=trainer,
        team=team,
        agent=agent,
        real=real,
        validation=validation,
        guard=guard,
        progress=progress,
        watch=watch,
    )
    _restore(session)
    return session


def _adapt(
    folder: RunFolder,
    config: RunConfig,
    splits: ImageSplits,
    backends: Backends,
    device: str,
    watch: Stopwatch,
    progress: Progress,
) -> Backends:
    """Return the backends with the generator adapted, and name it in the manifest."""
    adaptation = adapt(
        config,
        splits.train,
        folder.adaptation,
        reference=splits.validation if len(splits.validation) else None,
        captioner=backends.captioner,
        device=device,
        progress=progress,
    )
    watch.seconds["adapt"] = sum(adaptation.seconds.values())
    adapted = with_adapted(backends, config, adaptation.folder)
    manifest = replace(folder.read_manifest(), generator=adapted.generator.describe())
    folder.write_json(folder.manifest_file, manifest.to_json())
    return adapted


def _as_started(folder: RunFolder, config: RunConfig, splits: ImageSplits) -> ImageSplits:
    """Return the images as the run was started with them, if it was.

    Raises:
        RunFolderError: they are others, by content; names files.
    """
    # A run that starts from copied checkpoints has no manifest yet, but stands on images already.
    if not (folder.manifest_file.exists() or folder.checkpoints.exists()):
        return splits
    return as_recorded(
        splits,
        folder.recorded_images(),
        place=config.data.path,
        whose=f"the run in {folder.path}",
    )


def _begin_or_check(
    folder: RunFolder,
    config: RunConfig,
    splits: ImageSplits,
    backends: Backends | None,
    device: str,
    progress: Progress,
    *,
    own_backends: bool,
) -> tuple[RunConfig, Backends | None]:
    """Resolve and write settings, manifest and splits of a new run; check those of an old one.

    Returns:
        The resolved settings and the backends: those given, else those that the settings name;
        None without the agent.
    """
    if folder.manifest_file.exists():
        backends = backends or _build_backends(config)
        check_same_models(folder, config, backends)
        begun_in = folder.read_manifest().environment
        if sentence := other_environment(begun_in, environment(device)):
            _note(folder, sentence, progress, again=True)
        if config.to_toml() != read_run_config(folder).to_toml():  # paths that have moved
            write_run_config(folder, config)
        return config, backends
    config, notes = resolve_auto(
        config,
        device=device,
        typical_side_px=median_side_px(splits.train),
        images=len(splits.train),
        try_batch=not own_backends and config.agent.enabled,
    )
    if backends is not None and not own_backends:  # built before all was decided
        backends = with_decided_generator(backends, config)
    backends = backends or _build_backends(config)
    if (processes := config.training.processes) != 1:
        notes.append(f"The classifier is trained by {processes} processes (training.processes).")
    notes += splits.notes
    if splits.quarantined:
        notes.append("Refused images and the reasons: data/quarantine.jsonl in the run folder.")
    if splits.near_duplicates:
        notes.append("All near-duplicate pairs: data/near_duplicates.jsonl in the run folder.")
    shown = folder.baseline_notes()
    for note in notes:
        if note not in shown:
            progress.say(note)
    folder.write_jsonl(
        folder.quarantine_file, [{"name": q.name, "reason": q.reason} for q in splits.quarantined]
    )
    folder.write_jsonl(
        folder.near_duplicates_file, [pair.to_json() for pair in splits.near_duplicates]
    )
    folder.write_jsonl(folder.splits_file, splits.to_rows())
    write_run_config(folder, config)
    manifest = RunManifest(
        created=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        seed=config.seed,
        config_hash=settings_hash(config),
        data_fingerprint=splits.fingerprint,
        class_names=splits.train.class_names,
        images_per_split={
            "train": len(splits.train),
            "validation": len(splits.validation),
            "test": len(splits.test),
        },
        quarantined=len(splits.quarantined),
        captioner=backends.captioner.description if backends else None,
        rewriter=backends.rewriter.description if backends else None,
        generator=backends.generator.describe() if backends else None,
        environment=environment(device),
        notes=tuple(notes),
        classifier=classifier_description(config),
        text_model=text_model_description(config),
    )
    folder.write_json(folder.manifest_file, manifest.to_json())
    return config, backends


def _as_baseline(folder: RunFolder, config: RunConfig) -> RunConfig:
    """Return the settings with what a baseline, begun maybe elsewhere, has decided for both."""
    inner = RunFolder(folder.baseline)
    if not inner.config_file.exists():
        return config
    decided = read_run_config(inner)
    training = replace(config.training, mixed_precision=decided.training.mixed_precision)
    if training.processes == AUTO:
        training = replace(training, processes=decided.training.processes)
    return replace(config, classifier=decided.classifier, training=training)


def _note(folder: RunFolder, note: str, progress: Progress, *, again: bool = False) -> None:
    """Say a sentence once, or at each resume, and write it into the manifest."""
    manifest = folder.read_manifest()
    if note in manifest.notes:
        if again:
            progress.say(note)
        return
    if note not in folder.baseline_notes():
        progress.say(note)
    manifest = replace(manifest, notes=(*manifest.notes, note))
    folder.write_json(folder.manifest_file, manifest.to_json())


def _build_backends(config: RunConfig) -> Backends | None:
    return build_backends(config) if config.agent.enabled else None


def _restore(session: Session) -> None:
    """Restore the newest undamaged checkpoint, if there is one.

    If a finished round, or a snapshot that the filter still needs, is lost, restore an earlier one,
    or none, so that it is made again, the same to the bit.

    Raises:
        RunFolderError: a file of a finished round has changed, or no checkpoint is whole.
    """
    agent, say, folder = session.agent, session.progress.say, session.folder.checkpoints
    for number in range(len(agent.schedule.round_epochs) if agent else 0):
        session.folder.check_round(number)
    checkpoint = load_latest(folder)
    lost = _lost(session, checkpoint.epoch) if checkpoint else {}
    for epoch, what in lost.items():
        say(f"{what}; it is made again, and training repeats from before epoch {epoch + 1}")
    if lost:
        checkpoint = load_latest(folder, at_most=min(lost))
    if checkpoint is None:
        return
    for sentence in checkpoint.damaged:
        say(f"{sentence}; using the one before")
    session.trainer.load_state(checkpoint.tensors, checkpoint.state)
    if agent:
        agent.tell(session.classifier, epoch=checkpoint.epoch)  # a lost snapshot may be of now
    session.metrics = [fit(EpochMetrics, row) for row in checkpoint.state["metrics"]]
    say(f"resuming after epoch {checkpoint.epoch} of {session.config.training.epochs}")


def _lost(session: Session, epochs_done: int) -> dict[int, str]:
    """Return epoch -> what should be on disk since then, but is lost."""
    agent, guard = session.agent, session.guard
    if agent is None:
        return {}
    snapshots = agent.lost_snapshots()
    lost = {epoch: str(damage) for epoch, damage in snapshots.items() if epoch <= epochs_done}
    schedule = agent.schedule
    rounds = enumerate(zip(schedule.round_epochs, schedule.enter_epochs, strict=True))
    for number, (begins, enters) in rounds:
        stopped = guard is not None and guard.gave_up(min(enters, epochs_done))
        if stopped or session.folder.round_is_done(number):
            continue
        if begins < enters and begins < epochs_done and (damage := agent.lost_inputs(number)):
            lost[begins] = str(damage)
        if enters < epochs_done:
            lost[enters] = f"{session.folder.round(number) / DONE} is missing"
    return lost
