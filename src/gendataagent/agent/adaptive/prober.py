"""Probe images on a copy of the classifier; the original is left as found, to the bit.

Letters in tensor names: N images of a round, V validation images.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

from gendataagent.agent.adaptive.probes import NONE, Probe, read_probes
from gendataagent.core.errors import ScoreError, TrainingDivergedError
from gendataagent.core.journal import append_row
from gendataagent.core.records import Candidate, derive_seed
from gendataagent.data.pixels import Pixels
from gendataagent.training.trainer import Trainer


@dataclass(frozen=True, slots=True, kw_only=True)
class Material:
    """Images that a probe trains and measures on, all at the trainer's stored size.

    Args:
        earlier: kept images of earlier rounds that stay in training; None = no such images.
        earlier_candidates: the record of each.
        made: the usable images of this round, in order of `candidates`.
    """

    real: Pixels
    validation: Pixels
    earlier: Pixels | None
    earlier_candidates: Sequence[Candidate]
    made: Pixels
    candidates: Sequence[Candidate]


class Prober:
    """Probes the options of a round; finished probes are read from disk.

    Every option starts from the same weights and momentum, with the same seeds, learning rate and
    number of steps.

    Args:
        trainer: the training in progress; it is copied.
        copies: trainings of an option, over which its losses are averaged.
        seed: of the round.
        journal: `probes.jsonl` of the round.
        on_probe: called after each option.
    """

    def __init__(
        self,
        trainer: Trainer,
        material: Material,
        *,
        steps: int,
        copies: int = 1,
        seed: int,
        journal: Path,
        on_probe: Callable[[], None],
    ) -> None:
        self._tensors, self._state = trainer.state()
        config = replace(trainer.config, steps_per_epoch=steps)
        self._copy = Trainer(copy.deepcopy(trainer.classifier), config, seed=seed)
        self._seeds = [seed, *(derive_seed(seed, "copy", n) for n in range(1, copies))]
        self._material, self._journal, self._on_probe = material, journal, on_probe
        self._row_of = {c.id: row for row, c in enumerate(material.candidates)}
        self._known = {(probe.knob, probe.option): probe for probe in read_probes(journal)}
        self._losses: dict[tuple[str, ...], Tensor | None] = {}

    def __call__(self, knob: str, option: float | None, candidates: Sequence[Candidate]) -> Probe:
        """Return the outcome of training with `candidates`; see `decision.Measure`.

        Raises:
            TrainingDivergedError: training on the real images alone diverges.
        """
        probe = self._known.get((knob, option))
        if probe is None:
            probe = self._try(knob, option, candidates)
            append_row(self._journal, probe.to_json())
            self._known[knob, option] = probe
        self._on_probe()
        return probe

    def _try(self, knob: str, option: float | None, candidates: Sequence[Candidate]) -> Probe:
        started = time.perf_counter()
        losses_V = self._losses_with(candidates)
        seconds = time.perf_counter() - started
        loss = gain = error = None
        if losses_V is not None:
            loss, gain, error = float(losses_V.mean()), 0.0, 0.0
            if knob != NONE:
                without_V = self._losses_with([])
                if without_V is not None:
                    gain, error = paired_gain(without_V, losses_V)
        return Probe(
            knob=knob,
            option=option,
            images=len(candidates),
            loss=loss,
            gain=gain,
            standard_error=error,
            seconds=seconds,
        )

    def _losses_with(self, candidates: Sequence[Candidate]) -> Tensor | None:
        """Return the log-loss of each validation image, [V]; None where training diverged."""
        key = tuple(candidate.id for candidate in candidates)
        if key not in self._losses:
            try:
                losses = [self._train_and_measure(candidates, seed) for seed in self._seeds]
                self._losses[key] = torch.stack(losses).mean(dim=0)
            except (TrainingDivergedError, ScoreError):
                if not candidates:
                    raise
                self._losses[key] = None
        return self._losses[key]

    def _train_and_measure(self, candidates: Sequence[Candidate], seed: int) -> Tensor:
        # These are the tensors of the training in progress; loading does not copy momentum, and
        # training changes it in place.
        self._copy.load_state(
            {name: tensor.clone() for name, tensor in self._tensors.items()}, self._state
        )
        self._copy.seed = seed
        material = self._material
        parts = [material.earlier] if material.earlier is not None else []
        if candidates:
            rows = [self._row_of[candidate.id] for candidate in candidates]
            parts.append(material.made.subset(rows))
        self._copy.fit_epoch(
            self._copy.epochs_done + 1,
            material.real,
            Pixels.concat(parts) if parts else None,
            candidates=[*material.earlier_candidates, *candidates],
        )
        logits_VC = self._copy.classifier.predict_logits(material.validation).double()
        return functional.cross_entropy(logits_VC, material.validation.labels, reduction="none")


def paired_gain(without_V: Tensor, with_V: Tensor) -> tuple[float, float]:
    """Return how much lower the mean loss is with images than without, and its standard error."""
    differences_V = without_V - with_V
    error = differences_V.std(correction=1) / math.sqrt(len(differences_V))
    return float(differences_V.mean()), float(error)
