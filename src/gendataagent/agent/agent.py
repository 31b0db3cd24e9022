"""The agent: the paper's algorithm, one round at a time.

`Agent.run_round` reads as the algorithm. `ask` and `tell` are for a training loop of one's own:

    agent = Agent.open(config, images, out="runs/mine")
    for epoch in range(epochs):
        synthetic = agent.ask(classifier, epoch=epoch)    # makes new images when a round is due
        ...train one epoch on real + synthetic...
        agent.tell(classifier, epoch=epoch + 1)           # keeps a checkpoint when one is due
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from gendataagent.agent.acceptance import Acceptance
from gendataagent.agent.adaptive.decision import Decision
from gendataagent.agent.adaptive.rounds import AdaptiveRounds
from gendataagent.agent.names import method_problems
from gendataagent.agent.pool import Pool, SyntheticImages
from gendataagent.agent.schedule import Schedule
from gendataagent.agent.selection import SelectionContext, class_errors, select
from gendataagent.agent.selection.ranking import FloatArray
from gendataagent.config import AUTO, RunConfig
from gendataagent.config.run_config_file import check_same_settings, create_run_folder
from gendataagent.core import files, memory
from gendataagent.core.checkpoints import save_weights
from gendataagent.core.costs import StageCosts
from gendataagent.core.errors import ConfigError
from gendataagent.core.progress import Progress, SilentProgress
from gendataagent.core.records import Candidate, RoundRecord, Scored, derive_seed
from gendataagent.core.run_folder import RunFolder
from gendataagent.data import LabelledImages
from gendataagent.data.leakage import LeakageCheck
from gendataagent.data.pixels import Pixels
from gendataagent.generation import stages
from gendataagent.generation.backends import Backends, build_backends
from gendataagent.generation.caption_cache import CachedCaptioner
from gendataagent.generation.rewrite_journal import RewriteJournal
from gendataagent.training.classifier import Classifier
from gendataagent.training.trainer import Trainer

THUMBNAIL_PX = 160


class Agent:
    """Finds what the classifier finds hard, and makes images for it.

    Args:
        images: the real training images.
        folder: where every round is written down; a round that is done is never made again.
        backends: captioner, rewriter, generator and executor.
        pixels: `images` at the classifier's size, when the caller has them; else read at need.
        validation: images to choose by, where settings do so; at the trainer's stored size.
        trainer: the training under way; [adaptive] tries images on copies of it.
        held_out: recognises copies of validation and test images, which are dropped.

    Raises:
        ConfigError, DataError: adaptive.enabled without a trainer, or without validation images.
    """

    def __init__(
        self,
        config: RunConfig,
        images: LabelledImages,
        folder: RunFolder,
        backends: Backends,
        *,
        pixels: Pixels | None = None,
        validation: Pixels | None = None,
        trainer: Trainer | None = None,
        held_out: LeakageCheck | None = None,
        progress: Progress | None = None,
    ) -> None:
        self.config = config
        self.schedule = Schedule.from_config(config)
        self.pool = Pool(folder, images.class_names)
        self._images, self._folder, self._backends = images, folder, backends
        self._pixels = pixels
        self._validation = validation
        self._adaptive: AdaptiveRounds | None = None
        if config.adaptive.enabled:
            self._adaptive = AdaptiveRounds(config, folder, trainer, validation)
        self._progress = progress or SilentProgress()
        self._acceptance = Acceptance(
            config,
            folder,
            self.pool,
            adaptive=self._adaptive,
            held_out=held_out,
            progress=self._progress,
        )
        self._active: tuple[list[int], SyntheticImages] | None = None

    @classmethod
    def open(
        cls,
        config: RunConfig,
        images: LabelledImages,
        out: str | Path,
        *,
        backends: Backends | None = None,
        validation: Pixels | None = None,
        trainer: Trainer | None = None,
        progress: Progress | None = None,
    ) -> Agent:
        """Return an agent that writes to `out`, going on with what an earlier one did there.

        Raises:
            RunFolderError: `out` holds a run with other settings.
            ConfigError: agent.guard, which takes a whole run; or as the class.
            DataError: as the class.
        """
        if config.agent.guard:
            raise ConfigError(
                "agent.guard compares with a whole training without the agent, which only "
                "gendataagent.runs.run(config, out) does; set agent.guard=false to ask and tell"
            )
        found = list(method_problems(config))
        if found:
            raise ConfigError(found)
        if (Path(out) / "config.toml").is_file():
            folder = RunFolder.open(out)
            check_same_settings(folder, config)
        else:
            folder = create_run_folder(out, config)
        return cls(
            config,
            images,
            folder,
            backends or build_backends(config),
            validation=validation,
            trainer=trainer,
            progress=progress,
        )

    def ask(self, classifier: Classifier, *, epoch: int) -> SyntheticImages:
        """Return the synthetic images to train on after `epoch` epochs.

        When a round is due, or was when nobody asked, it is made first, from what `classifier`
        finds hard now. Calls between rounds return the images of the latest one (agent.pool =
        accumulate: of all so far).
        """
        due = self.schedule.rounds_until(epoch)
        if due and not self._folder.round_is_done(due[-1]):
            self.run_round(due[-1], classifier)
        rounds = [number for number in due if self._folder.round_is_done(number)]
        if self.config.agent.pool == "replace":
            rounds = rounds[-1:]
        if self._active is None or self._active[0] != rounds:
            self._active = (rounds, self.pool.kept(rounds))
        return self._active[1]

    def tell(self, classifier: Classifier, *, epoch: int) -> None:
        """Say that `epoch` epochs are trained; keeps the weights if the VoG filter needs them."""
        if epoch in self.schedule.snapshot_epochs:
            save_weights(self._folder.snapshots, epoch, classifier.module.state_dict())

    def run_round(self, number: int, classifier: Classifier) -> RoundRecord:
        """Make the images of one round: the method of the paper, step by step.

        Each step leaves its outcome on disk, so that an interrupted round goes on where it stopped.
        """
        costs = StageCosts(str(classifier.device))
        with costs.measure("select"):
            selected = self._select(number, classifier)
        prompted = self._prompt(number, self._plan(number, selected), costs)
        with costs.measure("render", clock=False):
            rendered = self._render(number, prompted, costs)
        self._release(self._backends.executor.release, costs.device)
        decision = self._acceptance.judge(
            number, rendered, selected, classifier, self._real_pixels(classifier), costs
        )
        judged = list(decision.judged)
        self.pool.close_round(number, judged)
        return self._write_record(number, selected, judged, decision, costs)

    def _select(self, number: int, classifier: Classifier) -> list[Scored]:
        """Score every real training image with the classifier and take the hardest."""
        path = self._folder.round(number) / "selected.jsonl"
        if path.exists():
            return [Scored(**row) for row in files.read_jsonl(path)]
        probabilities_NC = classifier.predict_probabilities(
            self._real_pixels(classifier), memory.scoring_batch(classifier.size_px)
        ).numpy()
        context = SelectionContext(
            source_ids=tuple(self._images.ids),
            labels_N=np.asarray(self._images.labels),
            probabilities_NC=probabilities_NC,
            seed=derive_seed(self.config.seed, "select", number),
            validation_error_C=self._validation_error(classifier),
            untrained=self.schedule.round_epochs[number] == 0,
        )
        if self._adaptive is not None:
            selected = self._adaptive.select(context)
        else:
            selected = select(context, self.config.selection)
        files.write_jsonl(path, [s.to_json() for s in selected])
        return selected

    def _plan(self, number: int, selected: Sequence[Scored]) -> list[Candidate]:
        """Return the candidates of a round, not yet captioned."""
        class_names = self._images.class_names
        if self._adaptive is not None:
            per_class = list(Counter(self._images.labels).values())
            return self._adaptive.plan(number, selected, class_names, per_class)
        return stages.plan(
            selected,
            round_number=number,
            rewrites=self.config.prompting.rewrites,
            class_names=class_names,
            settings=self.config.generation,
            run_seed=self.config.seed,
        )

    def _prompt(
        self, number: int, planned: Sequence[Candidate], costs: StageCosts
    ) -> list[Candidate]:
        """Caption the sources and rewrite each caption once per candidate."""
        path = self._folder.round(number) / "candidates.jsonl"
        if path.exists():
            return [Candidate.from_json(row) for row in files.read_jsonl(path)]
        backends, settings = self._backends, self.config.prompting
        with costs.measure("caption"):
            captioned = stages.caption(
                planned,
                backends.captioner,
                self._image,
                run_seed=self.config.seed,
                known=self._known_captions(number),
                progress=self._progress,
            )
        if isinstance(backends.captioner, CachedCaptioner):
            for note in backends.captioner.notes:
                self._progress.say(note)
        self._release(backends.captioner.release, costs.device)
        journal = RewriteJournal(self._folder.round(number) / "rewrites.jsonl")
        with costs.measure("rewrite"):
            prompted = stages.rewrite(
                captioned,
                backends.rewriter,
                class_names=self._images.class_names,
                known=journal.read(),
                on_batch=journal.add,
                batch_size=2 * max(settings.batch_size, settings.endpoint_concurrency),
                progress=self._progress,
            )
        self._release(backends.rewriter.release, costs.device)
        made_by = self._backends.generator.describe()
        prompted = [
            replace(c, generator=made_by.name, generator_revision=made_by.revision)
            for c in prompted
        ]
        self._save_source_thumbnails(number, prompted)
        files.write_jsonl(path, [c.to_json() for c in prompted])
        return prompted

    def _render(
        self, number: int, prompted: Sequence[Candidate], costs: StageCosts
    ) -> list[Candidate]:
        """Make one image per candidate; what an interrupted attempt made is not made again."""
        done, costs.seconds["render"] = self.pool.rendered(number)
        todo = [candidate for candidate in prompted if candidate.id not in done]
        todo.sort(key=lambda candidate: candidate.strength)  # a generator draws one at a time
        with self._progress.stage("render", len(prompted), "images", len(done)) as stage:
            start = time.perf_counter()
            for batch in stages.render(
                todo,
                self._backends.executor,
                self._backends.generator,
                self._image,
                batch_size=self.config.generation.chunk_size,
            ):
                seconds = time.perf_counter() - start
                self.pool.add_batch(number, batch, seconds)
                done.update((item.candidate.id, item.candidate) for item in batch)
                costs.seconds["render"] += seconds
                stage.advance(len(batch))
                start = time.perf_counter()
        return [done[candidate.id] for candidate in prompted]

    def _write_record(
        self,
        number: int,
        selected: Sequence[Scored],
        judged: Sequence[Candidate],
        decision: Decision,
        costs: StageCosts,
    ) -> RoundRecord:
        journal = RewriteJournal(self._folder.round(number) / "rewrites.jsonl")
        record = RoundRecord(
            round=number,
            epoch=self.schedule.round_epochs[number],
            selected=len(selected),
            made=len(judged),
            kept=sum(candidate.kept for candidate in judged),
            rejected=dict(Counter(c.rejected_by for c in judged if c.rejected_by is not None)),
            rewriting=journal.counts(),
            seconds=costs.seconds,
            peak_memory_mib=costs.peak_memory_mib,
            notes=decision.notes,
            choices=decision.values,
        )
        files.write_json(self._folder.round(number) / "record.json", record.to_json())
        self._folder.mark_round_done(number)
        self._progress.say(
            f"round {number + 1} of {len(self.schedule.round_epochs)}: {record.selected} hard "
            f"images, {record.made} made, {record.kept} kept" + ". ".join(["", *record.notes])
        )
        return record

    def _release(self, let_go: Callable[[], None], device: str) -> None:
        """Let a stage's model go, as the settings say or when the device's memory is short."""
        wanted = self.config.agent.release_models
        if wanted == "always" or (wanted == AUTO and memory.is_short(device)):
            let_go()

    def _validation_error(self, classifier: Classifier) -> FloatArray | None:
        """Return how often each class is missed on the validation images, where that is used."""
        validation = self._validation
        if validation is None or not len(validation):
            return None
        if self.config.selection.budget_by != "validation-error":
            return None
        probabilities_NC = classifier.predict_probabilities(
            validation, memory.scoring_batch(classifier.size_px)
        ).numpy()
        return class_errors(validation.labels.numpy(), probabilities_NC)

    def _real_pixels(self, classifier: Classifier) -> Pixels:
        size_px = classifier.size_px
        if self._adaptive is not None:
            size_px = self._adaptive.trainer.augmenter.stored_px
        if self._pixels is None or self._pixels.size_px < size_px:
            self._pixels = Pixels.from_images(self._images, size_px)
        return self._pixels

    def _image(self, source_id: str) -> Image.Image:
        return self._images.image(self._images.index_of(source_id))

    def _known_captions(self, number: int) -> dict[str, str]:
        return {
            candidate.source_id: candidate.source_caption
            for earlier in range(number)
            if self._folder.round_is_done(earlier)
            for candidate in self.pool.candidates(earlier)
            if candidate.source_caption is not None
        }

    def _save_source_thumbnails(self, number: int, candidates: Sequence[Candidate]) -> None:
        """Keep small copies of the sources, so that the report needs nothing but the run folder."""
        for candidate in {c.source_id: c for c in candidates}.values():
            thumbnail = self._image(candidate.source_id)
            thumbnail.thumbnail((THUMBNAIL_PX, THUMBNAIL_PX))
            name = candidate.id.split("-")[1]
            path = self._folder.round(number) / "sources" / f"{name}.png"
            with files.atomic_writer(path) as stream:
                thumbnail.save(stream, "PNG")
