"""Which images of a round go into training: held-out copies out, then the filter, then validation.

Held-out copies are refused first, so that nothing else ever looks at them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from gendataagent.agent.adaptive.decision import Decision
from gendataagent.agent.adaptive.rounds import AdaptiveRounds
from gendataagent.agent.filtering import FILTERS, FilterContext, FilterScores, drop
from gendataagent.agent.pool import Pool, SyntheticImages
from gendataagent.agent.schedule import Schedule
from gendataagent.config import RunConfig
from gendataagent.core import memory
from gendataagent.core.checkpoints import list_weights
from gendataagent.core.costs import StageCosts
from gendataagent.core.progress import Progress
from gendataagent.core.records import Candidate, Scored, derive_seed
from gendataagent.core.run_folder import RunFolder
from gendataagent.data.leakage import LeakageCheck
from gendataagent.data.pixels import Pixels
from gendataagent.training.classifier import Classifier


class Acceptance:
    """Decides over the images of each round.

    Args:
        adaptive: tries on validation what to keep; None = the filter's share as it is set.
        held_out: recognises copies of validation and test images; None = nobody looks.
    """

    def __init__(
        self,
        config: RunConfig,
        folder: RunFolder,
        pool: Pool,
        *,
        adaptive: AdaptiveRounds | None,
        held_out: LeakageCheck | None,
        progress: Progress,
    ) -> None:
        self._config, self._folder, self._pool = config, folder, pool
        self._schedule = Schedule.from_config(config)
        self._adaptive, self._held_out, self._progress = adaptive, held_out, progress

    def judge(
        self,
        number: int,
        rendered: Sequence[Candidate],
        selected: Sequence[Scored],
        classifier: Classifier,
        real: Pixels,
        costs: StageCosts,
    ) -> Decision:
        """Return every image of a round with its verdict, in order, and what there is to say.

        Args:
            rendered: what the generator made; what is refused already stays so.
            selected: the sources of the round, hardest first.
            real: the real training images, at the trainer's stored size where [adaptive] is on.
        """
        rendered = self._without_repeats(rendered)
        decision = self._of_usable(number, rendered, selected, classifier, real, costs)
        verdicts = {candidate.id: candidate for candidate in decision.judged}
        return replace(decision, judged=tuple(verdicts.get(c.id, c) for c in rendered))

    def _without_repeats(self, rendered: Sequence[Candidate]) -> list[Candidate]:
        """Refuse what repeats a held-out image, before anything else looks at the images."""
        usable = [candidate for candidate in rendered if candidate.kept]
        if self._held_out is None or not usable:
            return list(rendered)
        judged = {
            c.id: c for c in self._held_out.reject_copies(usable, self._pool.images_of(usable))
        }
        return [judged.get(candidate.id, candidate) for candidate in rendered]

    def _of_usable(
        self,
        number: int,
        rendered: Sequence[Candidate],
        selected: Sequence[Scored],
        classifier: Classifier,
        real: Pixels,
        costs: StageCosts,
    ) -> Decision:
        """Let the filter, and what is tried on validation, say which images go into training."""
        usable = [candidate for candidate in rendered if candidate.kept]
        if not usable:
            return Decision(notes=("Every image of this round was refused before the filter.",))
        with costs.measure("filter"):
            scores = self._filter_scores(number, usable, classifier, real)
        if self._adaptive is None:
            judged = tuple(drop(usable, scores, self._config.filter))
            return Decision(judged=judged, notes=(scores.note,) if scores.note else ())
        with costs.measure("probe", clock=False):
            decision = self._adaptive.judge(
                number,
                scores,
                self._pool.images_of(usable),
                selected=selected,
                real=real,
                standing=self._standing(number),
                progress=self._progress,
            )
        costs.seconds["probe"] = self._adaptive.seconds(number)
        return decision

    def _filter_scores(
        self, number: int, usable: Sequence[Candidate], classifier: Classifier, real: Pixels
    ) -> FilterScores:
        pixels = Pixels.from_pil(
            [self._pool.image(candidate) for candidate in usable],
            [candidate.label for candidate in usable],
            ids=[candidate.id for candidate in usable],
            size_px=classifier.size_px,
        )
        snapshots = [
            path
            for epoch, path in list_weights(self._folder.snapshots)
            if epoch <= self._schedule.round_epochs[number]
        ]
        context = FilterContext(
            candidates=usable,
            pixels=pixels,
            classifier=classifier,
            snapshots=snapshots,
            config=self._config.filter,
            seed=derive_seed(self._config.seed, "filter", number),
            real=real,
            batch_size=memory.scoring_batch(classifier.size_px),
        )
        return FILTERS[self._config.filter.by](context)

    def _standing(self, number: int) -> SyntheticImages | None:
        """Return the images of earlier rounds that a round leaves in training."""
        if self._config.agent.pool == "replace":
            return None
        return self._pool.kept(i for i in range(number) if self._folder.round_is_done(i))
