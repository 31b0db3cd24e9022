"""Makes the images of a round: captions, prompts, feedback, rendering. Each step can be resumed."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass

from gendataagent.agent.feedback.rounds import FeedbackRounds, RoundFeedback
from gendataagent.agent.image_writer import ImageWriter
from gendataagent.agent.overlap import Check, InFlight, renders_elsewhere
from gendataagent.agent.pool import Pool
from gendataagent.agent.schedule import Schedule
from gendataagent.agent.shortfalls import shortfalls
from gendataagent.agent.sources import SourceImages
from gendataagent.config import AUTO, RunConfig
from gendataagent.core import memory
from gendataagent.core.costs import StageCosts
from gendataagent.core.errors import ConfigError
from gendataagent.core.progress import Progress
from gendataagent.core.record_table import RecordTable
from gendataagent.core.records import FROM_NOISE, WITH_EDGES, Candidate
from gendataagent.core.run_folder import SELECTED_FILE, RunFolder
from gendataagent.core.seals import Damage
from gendataagent.data import LabelledImages
from gendataagent.data.pixels import Pixels
from gendataagent.generation import stages
from gendataagent.generation.backends import Backends, GeneratorFactory, Noted
from gendataagent.generation.caption_cache import CachedCaptioner
from gendataagent.generation.class_words import class_words
from gendataagent.generation.contexts import NAME as CONTEXTS
from gendataagent.generation.plain import NoCaption, SameCaption
from gendataagent.generation.rewrite_journal import RewriteJournal
from gendataagent.training.classifier import Classifier

CANDIDATES_FILE = "candidates.parquet"  # of a round: with captions and prompts


@dataclass(frozen=True, slots=True)
class Drawing:
    """What is needed to make the images of a round."""

    number: int
    feedback: RoundFeedback
    generator: GeneratorFactory
    costs: StageCosts


class ImageMaking:
    """From planned candidates to rendered ones.

    Args:
        images: the training images, from which the sources are read.
        feedback: steers the rendering; None = there is none.

    Raises:
        ConfigError: generation.start = noise, and the generator needs a source image; or
            generation.condition = edges, and it takes no ControlNet; or it was adapted to other
            classes.
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
        if config.generation.start == FROM_NOISE and not getattr(
            backends.generator, "makes_from_text", False
        ):
            raise ConfigError(
                f"generation.start = noise needs a generator that works from text alone; "
                f"{type(backends.generator).__name__} has no makes_from_text = True. Set "
                "generation.start = image, or name a diffusion generator"
            )
        if config.generation.condition == WITH_EDGES and not getattr(
            backends.generator, "follows_edges", False
        ):
            raise ConfigError(
                "generation.condition = edges needs a diffusion generator with a ControlNet; "
                f"{type(backends.generator).__name__} has no follows_edges = True. Set "
                "generation.condition = none, or name a diffusion generator"
            )
        self._class_words = class_words(backends.generator, images.class_names, config.generation)
        self._config, self._images, self._folder = config, images, folder
        self._pool, self._backends, self._progress = pool, backends, progress
        self._feedback = feedback
        self._sources = SourceImages(images, folder)
        self._round_epochs = Schedule.from_config(config).round_epochs

    def prompt(
        self, number: int, planned: RecordTable[Candidate], costs: StageCosts
    ) -> RecordTable[Candidate]:
        """Caption the sources and rewrite each caption once per candidate."""
        path = self._folder.round(number) / CANDIDATES_FILE
        journal = self._journal(number)
        if self._folder.is_whole(path):
            prompted = RecordTable.read(Candidate, path)
            if {id_ for id_, _ in journal.rewrites()} >= set(prompted.column("id")):
                return prompted  # else the round's record could not say who wrote the prompts
        backends, settings = self._backends, self._config.prompting
        with costs.measure("caption"):
            captions = stages.caption(
                planned,
                backends.captioner,
                self._sources.reader(number),
                run_seed=self._config.seed,
                known=self._known_captions(number),
                progress=self._progress,
            )
            captioned = planned.with_fields_of(captions, "source_caption")
        if isinstance(backends.captioner, CachedCaptioner):
            for note in backends.captioner.notes:
                self._progress.say(note)
        self._release(backends.captioner.release, costs.device)
        made_by = self._backends.generator.describe()
        with costs.measure("rewrite"):
            prompts = stages.rewrite(
                captioned,
                backends.rewriter,
                class_names=self._images.class_names,
                class_words=self._class_words,
                contexts=_contexts(captioned) if settings.rewriter == CONTEXTS else (),
                known=dict(journal.rewrites()),
                on_batch=journal.add,
                batch_size=2
                * max(settings.batch_size, settings.endpoint_concurrency)
                * getattr(backends.executor, "width", 1),
                progress=self._progress,
            )
            prompted = captioned.with_fields_of(prompts, "caption", "prompt", "rewritten_by")
        self._release(backends.rewriter.release, costs.device)
        prompted = prompted.with_column("generator", [made_by.name] * len(prompted))
        prompted = prompted.with_column("generator_revision", [made_by.revision] * len(prompted))
        with self._folder.writer(path) as stream:
            prompted.write(stream)
        return prompted

    def prepare(
        self,
        number: int,
        prompted: RecordTable[Candidate],
        classifier: Classifier,
        real: Pixels,
        costs: StageCosts,
    ) -> Drawing:
        """Return what is needed to make the images; from then on the classifier may change.

        Args:
            classifier: what steers, with feedback; its weights are on disk then.
            real: the real training images.
        """
        feedback = self._decide_feedback(number, prompted, classifier, real, costs)
        generator = self._backends.generator
        if self._feedback is not None:
            generator = self._feedback.generator(classifier)
        return Drawing(number, feedback, generator, costs)

    def render(self, drawing: Drawing, check: Check) -> RecordTable[Candidate]:
        """Make one image per candidate; images of an interrupted attempt are kept.

        Args:
            check: called after each batch; raises to end.
        """
        with drawing.costs.measure("render", clock=False):
            return self._render(drawing, check)

    def start(self, drawing: Drawing) -> InFlight[RecordTable[Candidate]]:
        """Return the rendering: with agent.overlap and workers it has begun, else it has not."""
        executor = self._backends.executor
        beside = self._config.agent.overlap and renders_elsewhere(executor)
        return InFlight(functools.partial(self.render, drawing), executor, beside=beside)

    def damage(self, number: int) -> Damage | None:
        """Return what is lost of all that a started round needs to make its images."""
        folder = self._folder.round(number)
        damaged = map(self._folder.damage, (folder / SELECTED_FILE, folder / CANDIDATES_FILE))
        own = next(filter(None, damaged), None)
        if own is not None or self._feedback is None:
            return own
        return self._feedback.damage(number)

    def release_generator(self, device: str) -> None:
        """Free the generator if the settings ask for it or the device's memory is short."""
        self._release(self._backends.executor.release, device)

    def finish(self, number: int, judged: Sequence[Candidate]) -> None:
        """Complete what the page needs of a round; remove what is needed only while it is made."""
        self._sources.complete_thumbnails(number, (candidate.source_id for candidate in judged))
        if self._feedback is not None:
            self._feedback.finish(number)

    def rewriting(self, number: int, judged: Sequence[Candidate]) -> dict[str, int]:
        """Return the outcome of the rewriter's replies -> count, see `RoundRecord`."""
        return self._journal(number).counts(candidate.id for candidate in judged)

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
            self._journal(number).rewrites(),
            self._images.class_names,
            captioned=not isinstance(captioner, NoCaption),
            rewritten=not isinstance(rewriter, SameCaption),
            filter_name=self._config.filter.by,
        )

    def _decide_feedback(
        self,
        number: int,
        prompted: RecordTable[Candidate],
        classifier: Classifier,
        real: Pixels,
        costs: StageCosts,
    ) -> RoundFeedback:
        """Decide how strongly the classifier steers the images of this round, if at all."""
        if self._feedback is None:
            return RoundFeedback(candidates=prompted)
        with costs.measure("feedback"):
            return self._feedback.prepare(
                number,
                prompted,
                classifier,
                real,
                self._sources.reader(number),
                trained=self._round_epochs[number] > 0,
            )

    def _render(self, drawing: Drawing, check: Check) -> RecordTable[Candidate]:
        number, costs, feedback = drawing.number, drawing.costs, drawing.feedback
        planned = feedback.candidates
        feedback_of = self._feedback.feedback_of if self._feedback is not None else None
        done, costs.seconds["render"] = self._pool.rendered(number)
        ready = [item for item in feedback.rendered if item.candidate.id not in done]
        if ready:
            self._pool.add_batch(number, ready, 0.0)
            done.update((item.candidate.id, item.candidate.rejected_by) for item in ready)
        todo = _in_order(
            planned, set(done), by_class=bool(getattr(drawing.generator, "class_loras", ""))
        )
        with (
            self._progress.stage("render", len(planned), "images", len(done)) as stage,
            ImageWriter(self._pool, number) as writer,
        ):
            start = time.perf_counter()
            for batch in stages.render(
                todo,
                self._backends.executor,
                drawing.generator,
                self._sources.reader(number),
                batch_size=self._config.generation.task_size,
                feedback_of=feedback_of,
            ):
                seconds = time.perf_counter() - start
                writer.add(batch, seconds)
                done.update((item.candidate.id, item.candidate.rejected_by) for item in batch)
                costs.seconds["render"] += seconds
                stage.advance(len(batch))
                check()
                start = time.perf_counter()
        return planned.with_column("rejected_by", [done[id_] for id_ in planned.column("id")])

    def _release(self, release: Callable[[], None], device: str) -> None:
        """Free a stage's model if the settings ask for it or the device's memory is short."""
        wanted = self._config.agent.release_models
        if wanted == "always" or (wanted == AUTO and memory.is_short(device)):
            release()

    def _journal(self, number: int) -> RewriteJournal:
        return RewriteJournal(self._folder.round(number) / "rewrites.jsonl")

    def _known_captions(self, number: int) -> dict[str, str]:
        known: dict[str, str] = {}
        for earlier in range(number):
            if self._folder.round_is_done(earlier):
                judged = self._pool.candidates(earlier)
                sources, captions = judged.column("source_id"), judged.column("source_caption")
                pairs = zip(sources, captions, strict=True)
                known.update((source, caption) for source, caption in pairs if caption is not None)
        return known


def _in_order(
    planned: RecordTable[Candidate], done: Collection[str], *, by_class: bool
) -> Iterator[Candidate]:
    """Yield the candidates that are not done, by strength: one call renders one strength.

    Args:
        by_class: whether by class first, since each class has a LoRA of its own to load.
    """
    labels = planned.column("label") if by_class else [0] * len(planned)
    of_all = list(zip(labels, planned.column("strength"), strict=True))
    for together in sorted(set(of_all)):
        for candidate, its in zip(planned, of_all, strict=True):
            if its == together and candidate.id not in done:
                yield candidate


def _contexts(captioned: RecordTable[Candidate]) -> tuple[str, ...]:
    """Return the caption of each source, once, in order of the sources' ids."""
    columns = (captioned.column("source_id"), captioned.column("source_caption"))
    of_source = {str(id_): str(text or "") for id_, text in zip(*columns, strict=True)}
    return tuple(of_source[id_] for id_ in sorted(of_source))
