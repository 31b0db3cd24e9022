"""Feedback in the rounds of a run: writes the guide's weights, finds the scale, keeps the record.

rounds/003/guide.safetensors        the guide's weights, until the round is done
rounds/003/feedback_probes.jsonl    each scale measured, so that an interruption loses one
rounds/003/plain/                   the images of the probes made without feedback
rounds/003/feedback.json            `FeedbackRecord`
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol, Self, runtime_checkable

from PIL import Image

from gendataagent.agent.feedback.guide import ClassifierGuide
from gendataagent.agent.feedback.measuring import measure_hardness
from gendataagent.agent.feedback.probing import Prober, check_same_guide
from gendataagent.agent.feedback.record import (
    EARLIER_ROUND,
    FIXED,
    NO_IMAGES,
    UNTRAINED,
    FeedbackRecord,
)
from gendataagent.agent.feedback.search import TARGET_IMAGES, Found, find_scale
from gendataagent.agent.validation import ValidationImages
from gendataagent.config import AUTO, RunConfig
from gendataagent.core import files
from gendataagent.core.checkpoints import save_weights_file
from gendataagent.core.errors import ConfigError
from gendataagent.core.progress import Progress
from gendataagent.core.protocols import Executor, Feedback, Guide
from gendataagent.core.record_table import RecordTable
from gendataagent.core.records import Candidate, RenderedCandidate, derive_seed
from gendataagent.core.rows import read_record
from gendataagent.core.run_folder import RunFolder
from gendataagent.core.seals import Damage
from gendataagent.data.pixels import Pixels
from gendataagent.generation import stages
from gendataagent.generation.backends import Backends, GeneratorFactory
from gendataagent.generation.feedback import OFF
from gendataagent.training.classifier import Classifier


@runtime_checkable
class SteerableFactory(Protocol):
    """A `GeneratorFactory` whose generator accepts requests with feedback."""

    def with_guide(self, guide: Guide) -> GeneratorFactory:
        """Return a factory that also sends the guide to each generator it builds."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundFeedback:
    """The feedback of one round.

    Args:
        candidates: of the round, with criterion, scale and guide where they are steered.
        rendered: those already made while the scale was searched.
        note: a sentence for the user; "" = nothing to say.
    """

    candidates: RecordTable[Candidate]
    rendered: tuple[RenderedCandidate, ...] = ()
    note: str = ""


class FeedbackRounds:
    """Sets the feedback of each round.

    Args:
        generator: must be a `SteerableFactory`.
        validation: photographs that the classifier is not trained on; needed for an automatic
            scale.

    Raises:
        ConfigError: the generator cannot be steered, or there are no validation images.
    """

    def __init__(
        self,
        config: RunConfig,
        folder: RunFolder,
        generator: GeneratorFactory,
        executor: Executor,
        validation: ValidationImages,
        progress: Progress,
    ) -> None:
        if not isinstance(generator, SteerableFactory):
            raise ConfigError(
                f"generation.feedback steers diffusion generators; {type(generator).__name__} has "
                "no with_guide. Set generation.feedback=none, or give a DiffusionFactory"
            )
        settings = config.generation
        self._auto = settings.feedback_scale == AUTO
        if self._auto and not len(validation):
            raise ConfigError(
                "generation.feedback_scale=auto compares with images that the classifier is not "
                "trained on, and there are none; give validation images (data.validation_share, "
                "or validation= of Agent.open), or a number such as "
                "generation.feedback_scale=0.06"
            )
        self._settings, self._folder, self._executor = settings, folder, executor
        self._overlap = config.agent.overlap
        self._seed, self._validation, self._progress = config.seed, validation, progress
        self._plain_generator: SteerableFactory = generator
        self._generator: GeneratorFactory | None = None

    @classmethod
    def of(
        cls,
        config: RunConfig,
        folder: RunFolder,
        backends: Backends,
        validation: ValidationImages,
        progress: Progress,
    ) -> Self | None:
        """Return the feedback of the settings, None where they want none; raise as the class."""
        if config.generation.feedback == OFF:
            return None
        return cls(config, folder, backends.generator, backends.executor, validation, progress)

    def generator(self, classifier: Classifier) -> GeneratorFactory:
        """Return the factory that renders all rounds, steered or not."""
        if self._generator is None:
            self._generator = self._plain_generator.with_guide(ClassifierGuide(classifier))
        return self._generator

    def feedback_of(self, candidate: Candidate) -> Feedback | None:
        """Return how a candidate is steered."""
        if candidate.feedback is None or not candidate.feedback_scale or candidate.guide is None:
            return None
        first, last = self._settings.feedback_steps
        return Feedback(
            criterion=candidate.feedback,
            scale=candidate.feedback_scale,
            label=candidate.label,
            views=self._settings.feedback_views,
            steps=(first, last),
            decoder=self._settings.feedback_decoder,
            guide=candidate.guide,
            guide_file=str(self._guide_file(candidate.round).absolute()),
        )

    def prepare(
        self,
        number: int,
        prompted: RecordTable[Candidate],
        classifier: Classifier,
        real: Pixels,
        image_of: Callable[[str], Image.Image],
        *,
        trained: bool,
    ) -> RoundFeedback:
        """Decide the feedback of a round and write its record; the decision is made once.

        Args:
            real: the real training images.
            trained: whether the classifier has been trained at all.

        Raises:
            RunFolderError: an interrupted attempt was guided by a classifier with other weights.
        """
        path = self._folder.round(number) / "feedback.json"
        steered = trained and number >= self._settings.feedback_first_round
        if not steered:
            reason = EARLIER_ROUND if trained else UNTRAINED
            record = FeedbackRecord(criterion=OFF, scale=0.0, reason=reason)
            self._folder.write_json(path, record.to_json())
            return RoundFeedback(candidates=prompted)
        # With agent.overlap the classifier may have been trained since the round began.
        guide = self._guide_on_disk(number) if self._overlap else ""
        guide = guide or self._write_guide(number, classifier)
        if self._folder.is_whole(path):
            record = read_record(FeedbackRecord, path)
            check_same_guide(record.guide, guide, path.parent)
            rendered: tuple[RenderedCandidate, ...] = ()
        else:
            render = functools.partial(self._render, classifier, image_of, guide)
            prober = Prober(path.parent, self._probes(prompted), render, classifier, guide)
            record = self._search(number, prober, classifier, real)
            rendered = prober.images.get(record.scale, ())
            self._folder.write_json(path, record.to_json())
        return RoundFeedback(
            candidates=RecordTable.of(
                Candidate, (self._steered(c, record.scale, guide) for c in prompted)
            ),
            rendered=rendered,
            note=record.sentence,
        )

    def finish(self, number: int) -> None:
        """Remove the guide's weights of a finished round; its hash stays in the records."""
        self._guide_file(number).unlink(missing_ok=True)

    def damage(self, number: int) -> Damage | None:
        """Return what is lost of a decided feedback: its record, or the weights that it names."""
        path = self._folder.round(number) / "feedback.json"
        if damage := self._folder.damage(path):
            return damage
        if read_record(FeedbackRecord, path).guide and not self._guide_on_disk(number):
            return Damage(self._guide_file(number), "is missing or has changed")
        return None

    def _guide_on_disk(self, number: int) -> str:
        """Return the hash of the guide's weights, "" if they are not those of the record."""
        path, file = self._folder.round(number) / "feedback.json", self._guide_file(number)
        if not (self._folder.is_whole(path) and file.is_file()):
            return ""
        guide = read_record(FeedbackRecord, path).guide
        return guide if guide == files.file_sha256(file) else ""

    def _search(
        self, number: int, prober: Prober, classifier: Classifier, real: Pixels
    ) -> FeedbackRecord:
        """Find the scale, or take the fixed one, and return the round's record."""
        target = floor = None
        plain = prober.measure(0.0)
        if not prober.hardness[0.0].labels:
            found = Found(0.0, NO_IMAGES, (plain,))
        elif self._auto:
            validation = self._validation.at(classifier.resize_px)
            assert validation is not None  # checked when the rounds were opened
            held_out = measure_hardness(classifier, self._some(validation))
            labels = prober.hardness[0.0].labels
            target = held_out.mean_p(labels) * self._settings.feedback_target
            share = held_out.recognition(labels)
            floor = max(0.0, share - (share * (1 - share) / len(labels)) ** 0.5)
            start = self._last_scale(number)
            found = find_scale(prober.measure, target=target, floor=floor, start=start)
        else:
            scale = float(self._settings.feedback_scale)
            found = Found(scale, FIXED, (plain, prober.measure(scale)))
        row_of = {id_: row for row, id_ in enumerate(real.ids)}
        sources = real.subset([row_of[c.source_id] for c in prober.candidates])
        return FeedbackRecord(
            criterion=self._settings.feedback,
            scale=found.scale,
            reason=found.reason,
            guide=prober.guide,
            target=target,
            floor=floor,
            probes=found.probes,
            candidates=tuple(candidate.id for candidate in prober.candidates),
            sources=measure_hardness(classifier, sources),
            plain=prober.hardness[0.0],
            guided=prober.hardness[found.scale],
        )

    def _render(
        self,
        classifier: Classifier,
        image_of: Callable[[str], Image.Image],
        guide: str,
        candidates: Sequence[Candidate],
        scale: float,
    ) -> list[RenderedCandidate]:
        """Make the images of candidates at a scale of feedback."""
        made: list[RenderedCandidate] = []
        with self._progress.stage(f"feedback {scale:g}", len(candidates), "images") as stage:
            for batch in stages.render(
                [self._steered(c, scale, guide) for c in candidates],
                self._executor,
                self.generator(classifier),
                image_of,
                batch_size=self._settings.task_size,
                feedback_of=self.feedback_of,
            ):
                made += batch
                stage.advance(len(batch))
        return made

    def _probes(self, prompted: Sequence[Candidate]) -> list[Candidate]:
        """Return the candidates measured: as many of each class as possible, drawn by seed."""
        of_class: dict[int, list[Candidate]] = {}
        for candidate in sorted(prompted, key=lambda c: derive_seed(c.seed, "probe")):
            of_class.setdefault(candidate.label, []).append(candidate)
        turns = sorted(
            (position, label, candidate.id, candidate)
            for label, group in of_class.items()
            for position, candidate in enumerate(group)
        )
        return [turn[-1] for turn in turns[: self._settings.feedback_images]]

    def _some(self, pixels: Pixels) -> Pixels:
        """Return at most `TARGET_IMAGES` of the images, drawn by seed."""
        rows = sorted(
            range(len(pixels)), key=lambda row: derive_seed(self._seed, "target", pixels.ids[row])
        )
        return pixels.subset(sorted(rows[:TARGET_IMAGES]))

    def _last_scale(self, number: int) -> float | None:
        """Return the scale of the last round that had one, as the start of the search."""
        for earlier in reversed(range(number)):
            path = self._folder.round(earlier) / "feedback.json"
            if path.exists() and (scale := read_record(FeedbackRecord, path).scale):
                return scale
        return None

    def _steered(self, candidate: Candidate, scale: float, guide: str) -> Candidate:
        if not scale:
            return candidate
        return replace(
            candidate, feedback=self._settings.feedback, feedback_scale=scale, guide=guide
        )

    def _guide_file(self, number: int) -> Path:
        return self._folder.round(number) / "guide.safetensors"

    def _write_guide(self, number: int, classifier: Classifier) -> str:
        """Write the classifier's weights and inputs; return the file's SHA-256."""
        path = self._guide_file(number)
        inputs = (classifier.size_px, classifier.resize_px, classifier.mean, classifier.std)
        about = repr((type(classifier.module).__name__, *inputs))
        save_weights_file(path, classifier.module.state_dict(), about)
        return files.file_sha256(path)
