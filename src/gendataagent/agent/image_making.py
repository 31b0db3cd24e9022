"""Makes the images of a round: captions, prompts, feedback, rendering. Each step can be resumed."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace

from gendataagent.agent.feedback.rounds import FeedbackRounds, RoundFeedback
from gendataagent.agent.image_writer import ImageWriter
from gendataagent.agent.pool import Pool
from gendataagent.agent.schedule import Schedule
from gendataagent.agent.shortfalls import shortfalls
from gendataagent.agent.sources import SourceImages
from gendataagent.config import AUTO, RunConfig
from gendataagent.core import memory
from gendataagent.core.costs import StageCosts
from gendataagent.core.progress import Progress
from gendataagent.core.records import Candidate
from gendataagent.core.rows import read_records
from gendataagent.core.run_folder import RunFolder
from gendataagent.data import LabelledImages
from gendataagent.data.pixels import Pixels
from gendataagent.generation import stages
from gendataagent.generation.backends import Backends, Noted
from gendataagent.generation.caption_cache import CachedCaptioner
from gendataagent.generation.known_classes import words_for
from gendataagent.generation.plain import NoCaption, SameCaption
from gendataagent.generation.rewrite_journal import RewriteJournal
from gendataagent.training.classifier import Classifier


class ImageMaking:
    """From planned candidates to rendered ones.

    Args:
        images: the training images, from which the sources are read.
        feedback: steers the rendering; None = there is none.
    """

    def __init__(
        self,
        config: RunConfig,
        images: LabelledImages,
        folder: RunFolder,
        pool: Pool,
        backends: Backends,
        *,
        feedback: FeedbackRounds | None,
        progress: Progress,
    ) -> None:
        self._config, self._images, self._folder = config, images, folder
        self._pool, self._backends, self._progress = pool, backends, progress
        self._feedback = feedback
        self._sources = SourceImages(images, folder)
        self._round_epochs = Schedule.from_config(config).round_epochs

    def prompt(
        self, number: int, planned: Sequence[Candidate], costs: StageCosts
    ) -> list[Candidate]:
        """Caption the sources and rewrite each caption once per candidate."""
        path = self._folder.round(number) / "candidates.jsonl"
        journal = self._journal(number)
        if self._folder.is_whole(path):
            prompted = read_records(Candidate, path)
            if journal.read().keys() >= {candidate.id for candidate in prompted}:
                return prompted  # else the round's record could not say who wrote the prompts
        backends, settings = self._backends, self._config.prompting
        with costs.measure("caption"):
            captioned = stages.caption(
                planned,
                backends.captioner,
                self._sources.reader(number),
                run_seed=self._config.seed,
                known=self._known_captions(number),
                progress=self._progress,
            )
        if isinstance(backends.captioner, CachedCaptioner):
            for note in backends.captioner.notes:
                self._progress.say(note)
        self._release(backends.captioner.release, costs.device)
        made_by = self._backends.generator.describe()
        with costs.measure("rewrite"):
            prompted = stages.rewrite(
                captioned,
                backends.rewriter,
                class_names=self._images.class_names,
                class_words=words_for(made_by.name, self._images.class_names),
                known=journal.read(),
                on_batch=journal.add,
                batch_size=2
                * max(settings.batch_size, settings.endpoint_concurrency)
                * getattr(backends.executor, "width", 1),
                progress=self._progress,
            )
        self._release(backends.rewriter.release, costs.device)
        prompted = [
            replace(c, generator=made_by.name, generator_revision=made_by.revision)
            for c in prompted
        ]
        self._folder.write_jsonl(path, [c.to_json() for c in prompted])
        return prompted

    def render(
        self,
        number: int,
        prompted: Sequence[Candidate],
        classifier: Classifier,
        real: Pixels,
        costs: StageCosts,
    ) -> tuple[list[Candidate], str]:
        """Make one image per candidate; images of an interrupted attempt are kept.

        Args:
            classifier: what steers, with feedback.
            real: the real training images.

        Returns:
            The candidates, and a sentence on their feedback; "" = nothing to say.
        """
        feedback = self._decide_feedback(number, prompted, classifier, real, costs)
        with costs.measure("render", clock=False):
            rendered = self._render(number, feedback, classifier, costs)
        self._release(self._backends.executor.release, costs.device)
        return rendered, feedback.note

    def finish(self, number: int) -> None:
        """Remove what a round needs only while it is made."""
        if self._feedback is not None:
            self._feedback.finish(number)

    def rewriting(self, number: int) -> dict[str, int]:
        """Return the outcome of the rewriter's replies -> count, see `RoundRecord`."""
        return self._journal(number).counts()

    def shortfalls(self, number: int, judged: Sequence[Candidate]) -> tuple[str, ...]:
        """Return what the rewriter met, and what the round had to do without."""
        captioner, rewriter = self._backends.captioner, self._backends.rewriter
        said = [
            note.rstrip(".")
            for part in (rewriter, self._backends.executor)
            if isinstance(part, Noted)
            for note in part.notes
        ]
        return tuple(said) + shortfalls(
            judged,
            self._journal(number).read(),
            self._images.class_names,
            captioned=not isinstance(captioner, NoCaption),
            rewritten=not isinstance(rewriter, SameCaption),
            filter_name=self._config.filter.by,
        )

    def _decide_feedback(
        self,
        number: int,
        prompted: Sequence[Candidate],
        classifier: Classifier,
        real: Pixels,
        costs: StageCosts,
    ) -> RoundFeedback:
        """Decide how strongly the classifier steers the images of this round, if at all."""
        if self._feedback is None:
            return RoundFeedback(candidates=tuple(prompted))
        with costs.measure("feedback"):
            return self._feedback.prepare(
                number,
                prompted,
                classifier,
                real,
                self._sources.reader(number),
                trained=self._round_epochs[number] > 0,
            )

    def _render(
        self, number: int, feedback: RoundFeedback, classifier: Classifier, costs: StageCosts
    ) -> list[Candidate]:
        """Make one image per candidate; images of an interrupted attempt are kept."""
        planned, generator, feedback_of = feedback.candidates, self._backends.generator, None
        if self._feedback is not None:
            generator = self._feedback.generator(classifier)
            feedback_of = self._feedback.feedback_of
        done, costs.seconds["render"] = self._pool.rendered(number)
        ready = [item for item in feedback.rendered if item.candidate.id not in done]
        if ready:
            self._pool.add_batch(number, ready, 0.0)
            done.update((item.candidate.id, item.candidate) for item in ready)
        todo = [candidate for candidate in planned if candidate.id not in done]
        todo.sort(key=lambda candidate: candidate.strength)  # one call renders one strength
        with (
            self._progress.stage("render", len(planned), "images", len(done)) as stage,
            ImageWriter(self._pool, number) as writer,
        ):
            start = time.perf_counter()
            for batch in stages.render(
                todo,
                self._backends.executor,
                generator,
                self._sources.reader(number),
                batch_size=self._config.generation.task_size,
                feedback_of=feedback_of,
            ):
                seconds = time.perf_counter() - start
                writer.add(batch, seconds)
                done.update((item.candidate.id, item.candidate) for item in batch)
                costs.seconds["render"] += seconds
                stage.advance(len(batch))
                start = time.perf_counter()
        return [done[candidate.id] for candidate in planned]

    def _release(self, release: Callable[[], None], device: str) -> None:
        """Free a stage's model if the settings ask for it or the device's memory is short."""
        wanted = self._config.agent.release_models
        if wanted == "always" or (wanted == AUTO and memory.is_short(device)):
            release()

    def _journal(self, number: int) -> RewriteJournal:
        return RewriteJournal(self._folder.round(number) / "rewrites.jsonl")

    def _known_captions(self, number: int) -> dict[str, str]:
        return {
            candidate.source_id: candidate.source_caption
            for earlier in range(number)
            if self._folder.round_is_done(earlier)
            for candidate in self._pool.candidates(earlier)
            if candidate.source_caption is not None
        }
