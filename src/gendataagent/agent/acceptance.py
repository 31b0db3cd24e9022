"""Which images of a round go into training: no held-out copies, then the filter, then validation.

Copies of held-out images are rejected first, so that neither filter nor probes see them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from gendataagent.agent.adaptive.decision import Decision
from gendataagent.agent.adaptive.rounds import AdaptiveRounds
from gendataagent.agent.by_hand.in_effect import DecisionsInEffect
from gendataagent.agent.decoding import DecodedImages, TrainingPixels
from gendataagent.agent.filtering import FILTERS, FilterContext, FilterScores, drop, reads_snapshots
from gendataagent.agent.pool import Pool
from gendataagent.agent.schedule import Schedule
from gendataagent.config import RunConfig
from gendataagent.core import memory
from gendataagent.core.checkpoints import weights_path
from gendataagent.core.costs import StageCosts
from gendataagent.core.errors import RunFolderError
from gendataagent.core.progress import Progress
from gendataagent.core.records import Candidate, Scored, derive_seed
from gendataagent.core.run_folder import RunFolder
from gendataagent.core.seals import Damage
from gendataagent.data.duplicates.leakage import LeakageCheck
from gendataagent.data.pixels import Pixels
from gendataagent.training.classifier import Classifier


class Acceptance:
    """Accepts or rejects the images of each round.

    Args:
        training_pixels: receives the accepted images at the size training stores them at.
        adaptive: tries on validation what to keep; None = filter.drop_share.
        held_out: recognises copies of validation and test images; None = no such check.
        in_effect: the decisions by hand about images of earlier rounds.
    """

    def __init__(
        self,
        config: RunConfig,
        folder: RunFolder,
        pool: Pool,
        training_pixels: TrainingPixels,
        *,
        adaptive: AdaptiveRounds | None,
        held_out: LeakageCheck | None,
        in_effect: DecisionsInEffect,
        progress: Progress,
    ) -> None:
        self._config, self._folder, self._pool = config, folder, pool
        self._training_pixels = training_pixels
        self._schedule = Schedule.from_config(config)
        self._adaptive, self._held_out, self._progress = adaptive, held_out, progress
        self._in_effect = in_effect

    def judge(
        self,
        number: int,
        rendered: Sequence[Candidate],
        selected: Sequence[Scored],
        classifier: Classifier,
        real: Pixels,
        costs: StageCosts,
    ) -> Decision:
        """Return every image of a round, in order, accepted or with the reason why not.

        Args:
            rendered: what the generator made; what it rejected stays rejected.
            selected: the sources of the round, hardest first.
            real: the real training images, at the trainer's stored size with [adaptive].
        """
        usable = [candidate for candidate in rendered if candidate.kept]
        judged: dict[str, Candidate] = {}
        images = None
        if usable:
            with costs.measure("filter"):
                images = self._decode(usable, classifier)
                judged = self._without_held_out_copies(usable, images)
        usable = [candidate for candidate in judged.values() if candidate.kept]
        if images is None or not usable:
            decision = Decision(
                notes=("Every image of this round was rejected before the filter.",)
            )
        else:
            images = images.subset([c.id for c in usable])
            decision = self._decide(number, usable, images, selected, classifier, real, costs)
            judged |= {candidate.id: candidate for candidate in decision.judged}
            self._keep_for_training(number, images, decision)
        return replace(decision, judged=tuple(judged.get(c.id, c) for c in rendered))

    def _decode(self, usable: Sequence[Candidate], classifier: Classifier) -> DecodedImages:
        stored_px = self._training_pixels.size_px
        sizes_px = {classifier.size_px, *([stored_px] if stored_px is not None else [])}
        return DecodedImages.read(self._pool.images_of(usable), sizes_px)

    def _without_held_out_copies(
        self, usable: Sequence[Candidate], images: DecodedImages
    ) -> dict[str, Candidate]:
        """Return id -> candidate; copies of a held-out image are rejected."""
        if self._held_out is not None:
            usable = self._held_out.reject_copies(usable, images.sketches_N)
        return {candidate.id: candidate for candidate in usable}

    def _decide(
        self,
        number: int,
        usable: Sequence[Candidate],
        images: DecodedImages,
        selected: Sequence[Scored],
        classifier: Classifier,
        real: Pixels,
        costs: StageCosts,
    ) -> Decision:
        """Apply the filter, and with [adaptive] what is tried on validation."""
        with costs.measure("filter"):
            pixels = images.pixels[classifier.size_px]
            scores = self._filter_scores(number, usable, pixels, classifier, real)
        if self._adaptive is None:
            judged = tuple(drop(usable, scores, self._config.filter))
            return Decision(judged=judged, notes=(scores.note,) if scores.note else ())
        with costs.measure("probe", clock=False):
            made = images.pixels[self._adaptive.stored_px]
            by_hand = self._in_effect.at(self._schedule.enter_epochs[number])
            earlier = self._pool.kept(self._rounds_in_training(number), by_hand)
            decision = self._adaptive.judge(
                number,
                scores,
                usable,
                made,
                selected=selected,
                real=real,
                earlier=self._training_pixels.of(earlier, made.size_px) if len(earlier) else None,
                earlier_candidates=earlier.candidates,
                progress=self._progress,
            )
        costs.seconds["probe"] = self._adaptive.seconds(number)
        return decision

    def _filter_scores(
        self,
        number: int,
        usable: Sequence[Candidate],
        pixels: Pixels,
        classifier: Classifier,
        real: Pixels,
    ) -> FilterScores:
        context = FilterContext(
            candidates=usable,
            pixels=pixels,
            classifier=classifier,
            snapshots=self._snapshots(number),
            config=self._config.filter,
            seed=derive_seed(self._config.seed, "filter", number),
            real=real,
            batch_size=memory.scoring_batch(classifier.size_px),
            image_of=self._pool.image,
        )
        return FILTERS[self._config.filter.by](context)

    def lost_snapshots(self) -> dict[int, Damage]:
        """Return epoch -> damage of each snapshot that an unfinished round's filter reads."""
        if not reads_snapshots(self._config.filter.by):
            return {}
        rounds = enumerate(self._schedule.enter_epochs)
        left = [at for number, at in rounds if not self._folder.round_is_done(number)]
        return {
            epoch: damage
            for epoch in self._schedule.snapshot_epochs
            if any(epoch <= at for at in left)
            and (damage := self._folder.damage(weights_path(self._folder.snapshots, epoch)))
        }

    def _snapshots(self, number: int) -> list[Path]:
        """Return the weight files that the schedule demands before a round, oldest first.

        None of them where a loop never called `Agent.tell`; the filter then says so.

        Raises:
            RunFolderError: the filter reads them, and one is missing or has changed.
        """
        before = self._schedule.enter_epochs[number]
        due = [epoch for epoch in self._schedule.snapshot_epochs if epoch <= before]
        paths = [weights_path(self._folder.snapshots, epoch) for epoch in due]
        damaged = list(filter(None, map(self._folder.damage, paths)))
        if not damaged:
            return paths
        told = set(paths) & set(self._folder.sealed_files())
        if told and reads_snapshots(self._config.filter.by):
            raise RunFolderError(
                f"the filter {self._config.filter.by} needs the classifier's weights of epoch "
                f"{', '.join(map(str, due))}, and {damaged[0]}. A loop of your own must call "
                "agent.tell(model, epoch=...) after every epoch; gendataagent run --resume trains "
                "those epochs again"
            )
        return []

    def _rounds_in_training(self, number: int) -> list[int]:
        """Return the earlier rounds whose images stay in training beside those of `number`."""
        if self._config.agent.pool == "replace":
            return []
        return [i for i in range(number) if self._folder.round_is_done(i)]

    def _keep_for_training(self, number: int, images: DecodedImages, decision: Decision) -> None:
        if self._training_pixels.size_px is not None:
            kept_ids = {candidate.id for candidate in decision.judged if candidate.kept}
            self._training_pixels.keep_only(self._rounds_in_training(number))
            self._training_pixels.add(
                number, images.pixels[self._training_pixels.size_px], kept_ids
            )
