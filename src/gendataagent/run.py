"""A whole run: data in, a trained classifier, a pool of images and a record of it all out.

`run` starts one, `resume` goes on with one that was stopped, however it was stopped.
"""

from __future__ import annotations

import datetime
import platform
from dataclasses import dataclass, field, replace
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from gendataagent import storage
from gendataagent.adaptation import adapt
from gendataagent.agent import Agent
from gendataagent.backbones import build_classifier
from gendataagent.checkpoint import load_latest, save_checkpoint, save_weights
from gendataagent.classifier import Classifier
from gendataagent.components import (
    Backends,
    build_backends,
    check_models,
    resolve_auto,
    resolve_device,
)
from gendataagent.config import RunConfig
from gendataagent.data import ImageSplits, load_data, median_side_px
from gendataagent.errors import GenDataAgentError, RunFolderError
from gendataagent.evaluation import evaluate
from gendataagent.pixels import Pixels
from gendataagent.pool import SyntheticImages
from gendataagent.progress import Progress, SilentProgress, Stopwatch
from gendataagent.records import EpochMetrics, RunManifest, derive_seed
from gendataagent.results import RunResult, read_result
from gendataagent.runfolder import RunFolder
from gendataagent.training import Trainer

_PACKAGES = ("torch", "diffusers", "transformers", "peft", "accelerate", "datasets")


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
        backends: models of your own instead of those the settings name.

    Raises:
        GenDataAgentError: with a sentence that says what to do; what was made so far is kept, and
            `resume(out)` goes on from there.
    """
    folder = RunFolder.create(out, config)
    try:
        return _run(folder, config, backends, progress or SilentProgress())
    except GenDataAgentError:
        folder.discard_if_unstarted()
        raise


def resume(
    out: str | Path,
    *,
    config: RunConfig | None = None,
    backends: Backends | None = None,
    progress: Progress | None = None,
) -> RunResult:
    """Go on with the run in `out` from its last whole step; a finished run is just read.

    Args:
        config: the settings, if some that do not affect results (device, batch size of the
            generator, workers...) are to change.

    Raises:
        RunFolderError: `out` is no run, or `config` would change its results.
    """
    folder = RunFolder.open(out)
    if config is not None:
        folder.check_same_settings(config)
        folder.write_config(config)
    return _run(folder, folder.config(), backends, progress or SilentProgress())


def run_until(
    config: RunConfig, out: str | Path, epoch: int, *, progress: Progress | None = None
) -> None:
    """Train `epoch` epochs and stop there, before a round that is due then; `resume` goes on.

    Runs that are the same up to that epoch can share it: their folders may begin as copies.

    Raises:
        GenDataAgentError: as `run`.
    """
    folder = RunFolder.create(out, config) if not Path(out).exists() else RunFolder.open(out)
    with folder.lock():
        _train(_prepare(folder, config, None, progress or SilentProgress()), epoch)


def _run(
    folder: RunFolder, config: RunConfig, backends: Backends | None, progress: Progress
) -> RunResult:
    with folder.lock():
        if not folder.is_done:
            check_models(config, resolve_device(config.device), own_backends=backends is not None)
        if config.agent.baseline:
            _run_baseline(folder, config, progress)
        if not folder.is_done:
            _train_and_evaluate(_prepare(folder, config, backends, progress))
    return read_result(folder.path)


def _run_baseline(folder: RunFolder, config: RunConfig, progress: Progress) -> None:
    """Train the same without the agent, in a run folder inside this one."""
    without = replace(
        config,
        agent=replace(config.agent, enabled=False, baseline=False),
        training=replace(config.training, real_images=True),
    )
    if folder.baseline.exists():
        inner = RunFolder.open(folder.baseline)
    else:
        inner = RunFolder.create(folder.baseline, without)
    if not inner.is_done:
        progress.say("first the same training without the agent, for comparison")
    _run(inner, inner.config(), None, progress)


@dataclass(slots=True, kw_only=True)
class _Session:
    """A run that is under way: what it is made of, and how far it is."""

    folder: RunFolder
    config: RunConfig
    splits: ImageSplits
    classifier: Classifier
    trainer: Trainer
    agent: Agent | None
    real: Pixels
    validation: Pixels
    progress: Progress
    watch: Stopwatch
    metrics: list[EpochMetrics] = field(default_factory=list)
    synthetic: tuple[SyntheticImages, Pixels] | None = None


def _prepare(
    folder: RunFolder, config: RunConfig, backends: Backends | None, progress: Progress
) -> _Session:
    """Load the data and the models, and go back to the last checkpoint if there is one."""
    device = resolve_device(config.device)
    if config.threads:
        torch.set_num_threads(config.threads)
    watch = Stopwatch(folder.read_optional_json(folder.timing_file, {}))
    with watch.measure("load data"), progress.stage("read pictures", None, "pictures") as stage:
        splits = load_data(config.data, seed=config.seed, progress=_counting(stage))
    config = _write_down(folder, config, splits, backends, device, progress)
    classifier = build_classifier(
        config.classifier,
        splits.train.class_names,
        seed=derive_seed(config.seed, "classifier"),
        device=device,
        trust_remote_code=config.trust_remote_code,
    )
    trainer = Trainer(classifier, config.training, seed=config.seed)
    with watch.measure("load data"):
        real = Pixels.from_images(splits.train, trainer.augmenter.stored_px)
        validation = Pixels.from_images(splits.validation, trainer.augmenter.stored_px)
    agent = None
    if config.agent.enabled:
        if backends is None:
            backends = _build_adapted_backends(folder, config, splits, device, watch, progress)
        agent = Agent(
            config,
            splits.train,
            folder,
            backends,
            pixels=real,
            validation=validation,
            progress=progress,
        )
    session = _Session(
        folder=folder,
        config=config,
        splits=splits,
        classifier=classifier,
        trainer=trainer,
        agent=agent,
        real=real,
        validation=validation,
        progress=progress,
        watch=watch,
    )
    _restore(session)
    return session


def _build_adapted_backends(
    folder: RunFolder,
    config: RunConfig,
    splits: ImageSplits,
    device: str,
    watch: Stopwatch,
    progress: Progress,
) -> Backends:
    """Return the backends of the settings, the generator adapted first where that is wanted."""
    backends = build_backends(config)
    if not config.adaptation.enabled:
        return backends
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
    adapted = replace(config, generation=replace(config.generation, lora=str(adaptation.folder)))
    return replace(backends, generator=build_backends(adapted).generator)


def _write_down(
    folder: RunFolder,
    config: RunConfig,
    splits: ImageSplits,
    backends: Backends | None,
    device: str,
    progress: Progress,
) -> RunConfig:
    """Resolve and write settings, manifest and splits of a new run; check those of an old one."""
    if folder.manifest_file.exists():
        fingerprint = storage.read_json(folder.manifest_file)["data_fingerprint"]
        if fingerprint != splits.fingerprint:
            raise RunFolderError(
                f"the images at {config.data.path} are not those the run in {folder.path} was "
                "started with (their ids or labels differ); put them back, or start a new run "
                "with --out"
            )
        return config
    config, notes = resolve_auto(
        config, device=device, typical_side_px=median_side_px(splits.train)
    )
    notes += splits.notes
    if splits.quarantined:
        notes.append("What was refused, and why: data/quarantine.jsonl in the run folder.")
    said = folder.baseline_notes()
    for note in notes:
        if note not in said:
            progress.say(note)
    storage.write_jsonl(
        folder.quarantine_file, [{"name": q.name, "reason": q.reason} for q in splits.quarantined]
    )
    storage.write_jsonl(folder.splits_file, splits.to_rows())
    folder.write_config(config)
    used = backends or (build_backends(config) if config.agent.enabled else None)
    manifest = RunManifest(
        created=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        seed=config.seed,
        config_hash=config.results_hash(),
        data_fingerprint=splits.fingerprint,
        class_names=splits.train.class_names,
        images_per_split={
            "train": len(splits.train),
            "validation": len(splits.validation),
            "test": len(splits.test),
        },
        quarantined=len(splits.quarantined),
        captioner=used.captioner.description if used else None,
        rewriter=used.rewriter.description if used else None,
        generator=used.generator.describe() if used else None,
        environment=environment(device),
        notes=tuple(notes),
    )
    storage.write_json(folder.manifest_file, manifest.to_json())
    return config


def environment(device: str) -> dict[str, str]:
    """Return what a result may depend on: versions, platform, device."""
    name = torch.cuda.get_device_name(device) if device.startswith("cuda") else device
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "device": name,
        "threads": str(torch.get_num_threads()),
        "gendataagent": metadata.version("gendataagent"),
        **{package: metadata.version(package) for package in _PACKAGES},
    }


def _restore(session: _Session) -> None:
    """Go back to the newest whole checkpoint; without one, start from nothing."""
    checkpoint = load_latest(session.folder.checkpoints)
    if checkpoint is None:
        return
    for sentence in checkpoint.damaged:
        session.progress.say(f"{sentence}; going back to the one before")
    session.trainer.load_state(checkpoint.tensors, checkpoint.state)
    rows = storage.read_jsonl(session.folder.metrics_file)
    session.metrics = [EpochMetrics(**row) for row in rows if row["epoch"] <= checkpoint.epoch]
    session.progress.say(
        f"going on after epoch {checkpoint.epoch} of {session.config.training.epochs}"
    )


def _train_and_evaluate(session: _Session) -> None:
    """Train to the last epoch, asking the agent for images on the way; then measure, once."""
    _train(session, session.config.training.epochs)
    _evaluate(session)
    session.folder.mark_done()


def _train(session: _Session, epochs: int) -> None:
    """Train until `epochs` epochs are done."""
    trainer, agent = session.trainer, session.agent
    with session.progress.stage("train", epochs, "epochs", trainer.epochs_done) as stage:
        while trainer.epochs_done < epochs:
            synthetic = agent.ask(session.classifier, epoch=trainer.epochs_done) if agent else None
            with session.watch.measure("train"):
                metrics = trainer.fit_epoch(
                    trainer.epochs_done + 1,
                    session.real,
                    _synthetic_pixels(session, synthetic),
                    strength=[c.strength for c in synthetic.candidates] if synthetic else 1.0,
                    on_step=lambda _, steps, __: stage.advance(1 / steps),
                )
            if agent:
                agent.tell(session.classifier, epoch=trainer.epochs_done)
            _record_epoch(session, metrics, keep=trainer.epochs_done == epochs)


def _synthetic_pixels(session: _Session, images: SyntheticImages | None) -> Pixels | None:
    """Return the images as pixels, read again only when they are others than the epoch before."""
    if images is None or not len(images):
        return None
    if session.synthetic is None or session.synthetic[0] is not images:
        pixels = Pixels.from_images(images, session.trainer.augmenter.stored_px)
        session.synthetic = (images, pixels)
    return session.synthetic[1]


def _record_epoch(session: _Session, metrics: EpochMetrics, *, keep: bool) -> None:
    """Measure if it is time, write the epoch's line, and a checkpoint if it is time or `keep`."""
    settings = session.config.training
    last = metrics.epoch == settings.epochs
    if last or metrics.epoch % settings.evaluate_every_epochs == 0:
        with session.watch.measure("evaluate"):
            metrics = replace(
                metrics,
                train_accuracy=evaluate(session.classifier, session.real, "train").top1,
                validation_accuracy=_validation_accuracy(session),
            )
    session.metrics.append(metrics)
    if keep or metrics.epoch % settings.checkpoint_every_epochs == 0:
        storage.write_jsonl(session.folder.metrics_file, [m.to_json() for m in session.metrics])
        storage.write_json(session.folder.timing_file, session.watch.seconds)
        tensors, state = session.trainer.state()
        save_checkpoint(session.folder.checkpoints, metrics.epoch, tensors, state)


def _validation_accuracy(session: _Session) -> float | None:
    if not len(session.validation):
        return None
    return evaluate(session.classifier, session.validation, "validation").top1


def _evaluate(session: _Session) -> None:
    """Measure the final classifier; the only place where the test split is read."""
    classifier, size_px = session.classifier, session.trainer.augmenter.stored_px
    save_weights(session.folder.classifier, session.config.training.epochs,
                 classifier.module.state_dict())  # fmt: skip
    with session.watch.measure("evaluate"):
        evaluations: dict[str, Any] = {}
        for split, pixels in (
            ("train", session.real),
            ("validation", session.validation),
            ("test", Pixels.from_images(session.splits.test, size_px)),
        ):
            if len(pixels):
                evaluations[split] = evaluate(classifier, pixels, split).to_json()
    storage.write_json(session.folder.timing_file, session.watch.seconds)
    storage.write_json(session.folder.evaluation_file, evaluations)


def _counting(stage: Any) -> Any:
    """Return a (done, total) callback that moves a stage along."""
    seen = 0

    def callback(done: int, total: int) -> None:
        nonlocal seen
        stage.advance(done - seen)
        seen = done

    return callback
