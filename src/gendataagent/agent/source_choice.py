"""Which real images a round makes new ones from, and what is to be made of each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np

from gendataagent.agent.adaptive.rounds import AdaptiveRounds
from gendataagent.agent.schedule import Schedule
from gendataagent.agent.selection import SelectionContext, class_errors, select
from gendataagent.agent.selection.ranking import FloatArray, Labels
from gendataagent.agent.validation import ValidationImages
from gendataagent.config import RunConfig
from gendataagent.core import memory
from gendataagent.core.record_table import RecordTable
from gendataagent.core.records import Candidate, Scored, derive_seed
from gendataagent.core.run_folder import SELECTED_FILE, RunFolder
from gendataagent.data import LabelledImages
from gendataagent.data.pixels import Pixels
from gendataagent.generation import stages
from gendataagent.training.classifier import Classifier


class SourceChoice:
    """Selects the sources of each round and plans the candidates.

    Args:
        images: the training images, undistorted.
        pixels: the same at the classifier's size, if the caller has them; else read once.
        validation: for budgets by the error of each class.
        adaptive: chooses in its own way, where [adaptive] is enabled.
    """

    def __init__(
        self,
        config: RunConfig,
        images: LabelledImages,
        folder: RunFolder,
        schedule: Schedule,
        *,
        pixels: Pixels | None,
        validation: ValidationImages,
        adaptive: AdaptiveRounds | None,
    ) -> None:
        self._config, self._images, self._folder = config, images, folder
        self._schedule, self._pixels = schedule, pixels
        self._validation, self._adaptive = validation, adaptive

    def select(self, number: int, classifier: Classifier) -> RecordTable[Scored]:
        """Score every real training image with the classifier and take the hardest."""
        path = self._folder.round(number) / SELECTED_FILE
        if self._folder.is_whole(path):
            return RecordTable.read(Scored, path)
        probabilities_NC = classifier.predict_probabilities(
            self.real_pixels(classifier), memory.scoring_batch(classifier.size_px)
        ).numpy()
        context = SelectionContext(
            source_ids=tuple(self._images.ids),
            labels_N=np.asarray(self._images.labels),
            probabilities_NC=probabilities_NC,
            seed=derive_seed(self._config.seed, "select", number),
            validation_error_C=self._validation_error(classifier),
            untrained=self._schedule.round_epochs[number] == 0,
            times_used_N=self._times_used(number) if self._config.selection.fresh else None,
        )
        if self._adaptive is not None:
            selected = RecordTable.of(Scored, self._adaptive.select(context))
        else:
            selected = RecordTable.of(Scored, select(context, self._config.selection))
        with self._folder.writer(path) as stream:
            selected.write(stream)
        return selected

    def plan(self, number: int, selected: Sequence[Scored]) -> RecordTable[Candidate]:
        """Return the candidates of a round, not yet captioned."""
        class_names = self._images.class_names
        planned: Iterable[Candidate]
        if self._adaptive is not None:
            per_class = list(Counter(self._images.labels).values())
            planned = self._adaptive.plan(number, list(selected), class_names, per_class)
        else:
            planned = stages.plan(
                selected,
                round_number=number,
                rewrites=self._config.prompting.rewrites,
                class_names=class_names,
                settings=self._config.generation,
                run_seed=self._config.seed,
            )
        planned = stages.with_prompt_classes(planned, class_names, self._config.generation)
        return RecordTable.of(Candidate, planned)

    def real_pixels(self, classifier: Classifier) -> Pixels:
        """Return the training images at a size that serves the classifier."""
        size_px = classifier.size_px
        if self._adaptive is not None:
            size_px = self._adaptive.stored_px
        if self._pixels is None or self._pixels.size_px < size_px:
            self._pixels = Pixels.from_images(self._images, size_px)
        return self._pixels

    def _validation_error(self, classifier: Classifier) -> FloatArray | None:
        """Return the error of each class on the validation images, where selection uses it."""
        if self._config.selection.budget_by != "validation-error":
            return None
        validation = self._validation.at(classifier.resize_px)
        if validation is None:
            return None
        probabilities_NC = classifier.predict_probabilities(
            validation, memory.scoring_batch(classifier.size_px)
        ).numpy()
        return class_errors(validation.labels.numpy(), probabilities_NC)

    def _times_used(self, number: int) -> Labels:
        """Return in how many earlier rounds each training image was a source, [N]."""
        used = Counter(
            source_id
            for earlier in range(number)
            for source_id in RecordTable.read(
                Scored, self._folder.round(earlier) / SELECTED_FILE
            ).column("source_id")
        )
        return np.array([used[id_] for id_ in self._images.ids])
