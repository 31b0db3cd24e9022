"""The agent: the paper's algorithm, one round at a time.

`Agent.run_round` reads as the algorithm. `ask` and `tell` serve a training loop of your own:

    agent = Agent.open(train_set, out="runs/own", generator=..., rounds=5, epochs=40)
    for epoch in range(40):
        synthetic = agent.ask(model, epoch=epoch)    # runs a round when one is due
        ...train one epoch on train_set + synthetic...
        agent.tell(model, epoch=epoch + 1)           # saves a snapshot when one is due
"""

from __future__ import annotations

import contextlib
import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from gendataagent.agent.acceptance import Acceptance
from gendataagent.agent.adaptive.decision import Decision
from gendataagent.agent.adaptive.rounds import AdaptiveRounds
from gendataagent.agent.by_hand.decisions import HandDecisions
from gendataagent.agent.by_hand.in_effect import DecisionsInEffect
from gendataagent.agent.by_hand.rules import HandCounts
from gendataagent.agent.class_record import check_class_names
from gendataagent.agent.decisions import with_machine_decided
from gendataagent.agent.decoding import TrainingPixels
from gendataagent.agent.feedback.rounds import FeedbackRounds
from gendataagent.agent.filtering import check_text_agreement
from gendataagent.agent.image_making import Drawing, ImageMaking
from gendataagent.agent.model_inputs import ModelInputs
from gendataagent.agent.names import method_problems
from gendataagent.agent.overlap import InFlight, gain_here
from gendataagent.agent.pool import Pool
from gendataagent.agent.schedule import Schedule
from gendataagent.agent.selection.words import selected_noun
from gendataagent.agent.source_choice import SourceChoice
from gendataagent.agent.synthetic import SyntheticImages
from gendataagent.agent.validation import ValidationImages
from gendataagent.config import RunConfig
from gendataagent.config.decided import as_decided
from gendataagent.config.keywords import with_keywords
from gendataagent.config.paths import settings_hash
from gendataagent.config.run_config_file import (
    check_same_settings,
    create_run_folder,
    read_run_config,
)
from gendataagent.core import files
from gendataagent.core.checkpoints import save_weights
from gendataagent.core.costs import StageCosts
from gendataagent.core.devices import resolve_device
from gendataagent.core.errors import ConfigError, RunFolderError
from gendataagent.core.launch import check_first_process
from gendataagent.core.progress import Progress, SilentProgress
from gendataagent.core.record_table import RecordTable
from gendataagent.core.records import Candidate, RoundRecord, Scored
from gendataagent.core.run_folder import RunFolder
from gendataagent.core.seals import Damage
from gendataagent.data import LabelledImages
from gendataagent.data.duplicates.leakage import LeakageCheck
from gendataagent.data.identity import check_train_images
from gendataagent.data.pixels import Pixels
from gendataagent.data.train_set import TrainSet, open_train_set
from gendataagent.generation.backends import Backends, build_backends, checked, name_problems
from gendataagent.generation.known_classes import known_classes
from gendataagent.training.classifier import Classifier
from gendataagent.training.trainer import Trainer


@dataclass(frozen=True, slots=True)
class _Started:
    """A round that has begun, and whose images are made now or when they are due."""

    selected: RecordTable[Scored]
    drawing: Drawing
    images: InFlight[RecordTable[Candidate]]


class Agent:
    """Finds what the classifier finds hard, and makes images for it; `Agent.open` returns one.

    Args:
        train_set: the real training images; `images` alone where they are `LabelledImages`.
        folder: holds the outcome of every round; a finished round is not run again.
        backends: captioner, rewriter, generator and executor.
        inputs: how to feed a model that is no `Classifier`; None = as the train set shows it.
        pixels: the real images at the classifier's size, if the caller has them; else read once.
        validation: images to choose by, where settings do so; at the trainer's stored size.
        trainer: the training in progress; [adaptive] tries images on copies of it.
        held_out: recognises copies of validation and test images, which are rejected.

    Attributes:
        images: the training images, undistorted: a data set of `(PIL image, label)`.
        train_set: as it was opened.
        pool: every candidate of every round.
        schedule: the epochs of rounds and snapshots.

    Raises:
        ConfigError, DataError: adaptive.enabled without a trainer, or without validation images.
    """

    def __init__(
        self,
        config: RunConfig,
        train_set: LabelledImages | TrainSet,
        folder: RunFolder,
        backends: Backends,
        *,
        inputs: ModelInputs | None = None,
        pixels: Pixels | None = None,
        validation: Pixels | ValidationImages | None = None,
        trainer: Trainer | None = None,
        held_out: LeakageCheck | None = None,
        progress: Progress | None = None,
    ) -> None:
        if isinstance(train_set, LabelledImages):
            train_set = TrainSet(images=train_set)
        self.config = config
        self.train_set, self.images = train_set, train_set.images
        self.schedule = Schedule.from_config(config)
        self.pool = Pool(folder, self.images.class_names, train_set.form, run=settings_hash(config))
        self._folder = folder
        self._inputs = inputs or ModelInputs.of(train_set, None, None, None)
        if not isinstance(validation, ValidationImages):
            validation = ValidationImages(validation)
        adaptive: AdaptiveRounds | None = None
        if config.adaptive.enabled:
            adaptive = AdaptiveRounds(config, folder, trainer, validation.pixels)
        self._source_choice = SourceChoice(
            config,
            self.images,
            folder,
            self.schedule,
            pixels=pixels,
            validation=validation,
            adaptive=adaptive,
        )
        self._progress = progress or SilentProgress()
        self._training_pixels = TrainingPixels(trainer.augmenter.stored_px if trainer else None)
        self._in_effect = DecisionsInEffect(folder)
        self._acceptance = Acceptance(
            config,
            folder,
            self.pool,
            self._training_pixels,
            adaptive=adaptive,
            held_out=held_out,
            in_effect=self._in_effect,
            progress=self._progress,
        )
        self._making = ImageMaking(
            config,
            self.images,
            folder,
            self.pool,
            backends,
            feedback=FeedbackRounds.of(config, folder, backends, validation, self._progress),
            progress=self._progress,
        )
        self._active: tuple[list[int], HandDecisions, SyntheticImages] | None = None
        self._started: _Started | None = None
        if config.agent.overlap and (
            sentence := gain_here(config, backends.executor, resolve_device(config.device))
        ):
            self._progress.say(sentence)

    @classmethod
    def open(
        cls,
        train_set: Any,
        *,
        out: str | Path,
        config: RunConfig | None = None,
        class_names: Sequence[str] | None = None,
        size_px: int | None = None,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        backends: Backends | None = None,
        validation: Any = None,
        trainer: Trainer | None = None,
        progress: Progress | None = None,
        **settings: Any,
    ) -> Agent:
        """Return an agent that writes to `out`; it resumes where an earlier one stopped there.

        Args:
            train_set: a torch data set of (image, label), a `datasets.Dataset`, the path of an
                image folder, parquet file or saved data set (its train split), or
                `LabelledImages`. The agent reads the images without the set's transforms.
            config: settings; None = the defaults.
            class_names: of a torch data set without `classes`; None = the numbers.
            size_px: side of the square images that the model takes; None = as `ModelInputs` finds.
            mean, std: normalisation of the model's images in [0, 1]; None = likewise.
            backends: captioner, rewriter, generator and executor of your own.
            validation: images the model is not trained on, for settings that compare with them:
                a data set of the same kinds as `train_set`, or `Pixels`; None = the validation
                split, where `train_set` is a path.
            trainer: for adaptive.enabled.
            settings: single settings over `config`: `rounds=5, epochs=40, generator="..."`,
                `training={"batch_size": 64}` or `**{"filter.drop_share": 0.5}`.

        Raises:
            RunFolderError: `out` holds a run with other settings, of other classes or images.
            ConfigError: unknown, ambiguous or wrong settings; agent.guard, which needs a complete
                run; another process of a launcher than the first; or as the class.
            DataError: `train_set` cannot be used; or as the class.
        """
        check_first_process()
        config = with_keywords(
            config or RunConfig(),
            settings,
            method_problems,
            *([] if backends else [name_problems]),
        )
        if config.agent.is_guarded:
            raise ConfigError(
                "agent.guard compares with a complete training without the agent, which only "
                "gendataagent.run(config, out) does; set agent.guard=false to ask and tell"
            )
        resumes = (Path(out) / "config.toml").is_file()
        if resumes:
            config = as_decided(config, read_run_config(RunFolder.open(out)))
        config = replace(config, threads=config.threads or torch.get_num_threads())
        torch.set_num_threads(config.threads)
        opened = open_train_set(train_set, config.data, seed=config.seed, class_names=class_names)
        if opened.splits is not None:
            config = with_keywords(config, {"data.path": str(train_set)})
        inputs = ModelInputs.of(opened, size_px, mean, std)
        if resumes:
            folder = RunFolder.open(out)
            check_same_settings(folder, config)
        else:
            config = with_machine_decided(
                config,
                resolve_device(config.device),
                images=len(opened.images),
                try_batch=backends is None,
            )
            folder = create_run_folder(out, config)
        check_class_names(folder, opened.images.class_names)
        check_train_images(folder, opened.images)
        backends = backends or checked(build_backends(config))
        check_text_agreement(config.filter)
        known = known_classes(backends.generator.describe().name, opened.images.class_names)
        if known is not None and known.unknown:
            warnings.warn(known.warning, stacklevel=2)
        return cls(
            config,
            opened,
            folder,
            backends,
            inputs=inputs,
            validation=ValidationImages.of(validation, opened, config.data, seed=config.seed),
            trainer=trainer,
            held_out=LeakageCheck.of(opened.splits, config.data) if opened.splits else None,
            progress=progress,
        )

    def ask(self, model: nn.Module | Classifier, *, epoch: int) -> SyntheticImages:
        """Return the synthetic images to train on after `epoch` epochs, as a torch data set.

        If a round is due or overdue, run it first, with what `model` finds hard now. Calls between
        rounds return the images of the latest one (agent.pool = accumulate: of all so far).
        Decisions by hand (`gendataagent review`) take effect with the next call.

        Args:
            model: a torch module that returns logits [B, C], as a tensor or as `.logits`; it is
                left as found.
        """
        due, begun = self.schedule.rounds_until(epoch), self.schedule.begun_until(epoch)
        if self._started is not None:
            self._started.images.check()
        if due and not self._folder.round_is_done(due[-1]):
            self.run_round(due[-1], self._inputs.classifier(model))
        if len(begun) > len(due) and not self._is_started(begun[-1]):
            self._start(begun[-1], self._inputs.classifier(model))
        rounds = [number for number in due if self._folder.round_is_done(number)]
        if self.config.agent.pool == "replace":
            rounds = rounds[-1:]
        by_hand = self._in_effect.at(epoch)
        if self._active is None or self._active[:2] != (rounds, by_hand):
            self._say_by_hand(rounds, by_hand, epoch)
            self._active = (rounds, by_hand, self.pool.kept(rounds, by_hand))
        return self._active[2]

    @property
    def by_hand(self) -> HandDecisions:
        """The decisions by hand under which the images of the last `ask` are kept."""
        return self._active[1] if self._active else HandDecisions()

    def _say_by_hand(self, rounds: list[int], by_hand: HandDecisions, epoch: int) -> None:
        if by_hand != self.by_hand:
            candidates = (c for number in rounds for c in self.pool.candidates(number))
            counts = HandCounts.of(candidates, by_hand.of_id)
            self._progress.say(f"by hand, from epoch {epoch + 1} on: {counts.words}")

    def tell(self, model: nn.Module | Classifier, *, epoch: int) -> None:
        """Report that `epoch` epochs are trained; saves the weights if the filter needs them."""
        if epoch in self.schedule.snapshot_epochs:
            weights = self._inputs.classifier(model).module.state_dict()
            save_weights(self._folder.snapshots, epoch, weights, self._folder.write)

    def catch_up(self, model: nn.Module | Classifier, *, epoch: int) -> None:
        """Check that the folder holds what this training made before `epoch`, and `tell` if needed.

        For a training that another library resumes from a checkpoint of its own.

        Raises:
            RunFolderError: a round or snapshot of an earlier epoch is missing or has changed.
        """
        done = [self._folder.round_is_done(i) for i in range(len(self.schedule.enter_epochs))]
        missing = [
            f"the round due after {at} epochs has not finished"
            for at, is_done in zip(self.schedule.enter_epochs, done, strict=True)
            if at < epoch and not is_done
        ]
        begins = self._active is None or epoch in self.schedule.snapshot_epochs
        lost = self.lost_snapshots() if begins else {}
        if epoch in lost:
            self.tell(model, epoch=epoch)
        missing += [str(damage) for at, damage in lost.items() if at < epoch]
        if missing:
            raise RunFolderError(
                f"training continues after {epoch} epochs, but in {self._folder.path} {missing[0]}."
                " Open the agent in the folder with which this training began, or train from the "
                "beginning with a new one"
            )
        if epoch == 0 and any(done):
            warnings.warn(
                f"training begins, and {self._folder.path} holds {sum(done)} finished rounds: "
                "their images are used again. For new ones name another folder",
                stacklevel=3,
            )

    def lost_snapshots(self) -> dict[int, Damage]:
        """Return epoch -> damage of each lost snapshot that the filter of a later round reads."""
        return self._acceptance.lost_snapshots()

    def pixels_of(self, images: SyntheticImages, size_px: int) -> Pixels:
        """Return images of `ask` at one size; those of a trainer's size are in memory already."""
        return self._training_pixels.of(images, size_px)

    def run_round(self, number: int, classifier: Classifier) -> RoundRecord:
        """Make the images of one round: the method of the paper, step by step.

        Each step writes its outcome to disk, so that an interrupted round resumes where it stopped.
        With agent.overlap the round was started epochs ago, and this completes it.
        """
        if not self._is_started(number):
            self._start(number, classifier)
        started = self._started
        assert started is not None
        costs, real = started.drawing.costs, self._source_choice.real_pixels(classifier)
        with costs.measure("wait") if started.images.is_beside else contextlib.nullcontext():
            rendered = started.images.wait()
        self._started = None
        self._making.release_generator(costs.device)
        decision = self._acceptance.judge(
            number, rendered, started.selected, classifier, real, costs
        )
        judged = list(decision.judged)
        self.pool.close_round(number, judged)
        if note := started.drawing.feedback.note:
            decision = replace(decision, notes=(*decision.notes, note))
        self._making.finish(number, judged)
        return self._write_record(number, started.selected, judged, decision, costs)

    def _start(self, number: int, classifier: Classifier) -> None:
        """Begin a round: all that needs the classifier as it is now, up to the images."""
        self.close()
        costs = StageCosts(str(classifier.device))
        with costs.measure("select"):
            selected = self._source_choice.select(number, classifier)
        prompted = self._making.prompt(number, self._source_choice.plan(number, selected), costs)
        real = self._source_choice.real_pixels(classifier)
        drawing = self._making.prepare(number, prompted, classifier, real, costs)
        self._started = _Started(selected, drawing, self._making.start(drawing))

    def _is_started(self, number: int) -> bool:
        return self._started is not None and self._started.drawing.number == number

    def close(self) -> None:
        """Stop making the images of a round; an agent opened again finishes them."""
        if self._started is not None:
            self._started.images.stop()
            self._started = None

    def lost_inputs(self, number: int) -> Damage | None:
        """Return what is lost of all that a started round needs to make its images."""
        return self._making.damage(number)

    def _write_record(
        self,
        number: int,
        selected: Sequence[Scored],
        judged: Sequence[Candidate],
        decision: Decision,
        costs: StageCosts,
    ) -> RoundRecord:
        record = RoundRecord(
            round=number,
            epoch=self.schedule.round_epochs[number],
            enters=self.schedule.enter_epochs[number] if self.config.agent.overlap else None,
            selected=len(selected),
            made=len(judged),
            kept=sum(candidate.kept for candidate in judged),
            rejected=dict(Counter(c.rejected_by for c in judged if c.rejected_by is not None)),
            rewriting=self._making.rewriting(number, judged),
            seconds=costs.seconds,
            peak_memory_mib=costs.peak_memory_mib,
            notes=(*decision.notes, *self._making.shortfalls(number, judged)),
            choices=decision.values,
        )
        files.write_json(self._folder.round(number) / "record.json", record.to_json())
        self._folder.mark_round_done(number)
        epochs = self.schedule.round_epochs
        noun = selected_noun(self.config.selection.by, trained=epochs[number] > 0)
        counted = f"{record.selected} {noun}, {record.made} made, {record.kept} kept"
        if record.enters is not None:
            counted += f", selected after epoch {record.epoch}, used after epoch {record.enters}"
        sentences = [f"round {number + 1} of {len(epochs)}: {counted}", *record.notes]
        self._progress.say(". ".join(sentences))
        return record
