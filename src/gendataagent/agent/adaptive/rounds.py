"""The steps of a round that [adaptive] replaces: select, plan, and decide what to keep."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from gendataagent.agent.adaptive.decision import Decision, decide
from gendataagent.agent.adaptive.planning import (
    assign_strengths,
    images_per_source,
    max_probes,
    select_with_min_share,
)
from gendataagent.agent.adaptive.prober import Material, Prober
from gendataagent.agent.adaptive.probes import (
    PROBES_FILE,
    SHARE,
    STRENGTH,
    Probe,
    read_probes,
)
from gendataagent.agent.budget import images_of_a_round
from gendataagent.agent.filtering import FilterScores
from gendataagent.agent.selection import SelectionContext
from gendataagent.config import RunConfig
from gendataagent.core.errors import ConfigError, DataError
from gendataagent.core.progress import Progress
from gendataagent.core.records import Candidate, RoundRecord, Scored, derive_seed
from gendataagent.core.rows import read_record
from gendataagent.core.run_folder import RunFolder
from gendataagent.data.pixels import Pixels
from gendataagent.generation import stages
from gendataagent.training.trainer import Trainer

LEAST_VALIDATION = 2  # of one image there is no standard error


class AdaptiveRounds:
    """Chooses strength, selection share and drop share while training.

    Args:
        trainer: the training in progress; copies of it probe the options.
        validation: images that decide, at the trainer's stored size.

    Raises:
        ConfigError: no trainer.
        DataError: too few validation images.
    """

    def __init__(
        self,
        config: RunConfig,
        folder: RunFolder,
        trainer: Trainer | None,
        validation: Pixels | None,
    ) -> None:
        if trainer is None:
            raise ConfigError(
                "adaptive.enabled probes images on a copy of the training in progress, so the "
                "agent needs it: Agent.open(..., trainer=Trainer(...), validation=...); or set "
                "adaptive.enabled=false"
            )
        if validation is None or len(validation) < LEAST_VALIDATION:
            raise DataError(
                f"adaptive.enabled chooses by the validation images, and there are "
                f"{0 if validation is None else len(validation)}; give a validation split, raise "
                "data.validation_share, or set adaptive.enabled=false"
            )
        self._config, self._folder = config, folder
        self._trainer, self._validation = trainer, validation
        self.stored_px = trainer.augmenter.stored_px

    def select(self, context: SelectionContext) -> list[Scored]:
        """Return the sources of a round: those of the largest share."""
        return select_with_min_share(context, self._config.selection, self._config.adaptive)

    def plan(
        self,
        number: int,
        selected: Sequence[Scored],
        class_names: Sequence[str],
        images_per_class: Sequence[int],
    ) -> list[Candidate]:
        """Return the candidates of a round, as many as without [adaptive]."""
        config, favoured = self._config, self._latest_choices(number)
        planned = stages.plan(
            selected,
            round_number=number,
            rewrites=images_per_source(
                selected,
                images_of_a_round(config, images_per_class),
                favoured.get(SHARE),
            ),
            class_names=class_names,
            settings=config.generation,
            run_seed=config.seed,
        )
        return assign_strengths(
            planned,
            config.adaptive.strengths,
            favoured.get(STRENGTH),
            seed=derive_seed(config.seed, "adaptive", number),
        )

    def judge(
        self,
        number: int,
        scores: FilterScores,
        usable: Sequence[Candidate],
        made: Pixels,
        *,
        selected: Sequence[Scored],
        real: Pixels,
        earlier: Pixels | None,
        earlier_candidates: Sequence[Candidate],
        progress: Progress,
    ) -> Decision:
        """Return what a round keeps; every probe is written to `probes.jsonl`.

        Args:
            scores: of the filter, one per usable candidate.
            made: images of the usable candidates, at `stored_px` like the other pixels.
            earlier: images of earlier rounds that stay in training.
        """
        material = Material(
            real=real,
            validation=self._validation,
            earlier=earlier,
            earlier_candidates=earlier_candidates,
            made=made,
            candidates=usable,
        )
        with progress.stage("probe", max_probes(self._config.adaptive), "options") as stage:
            prober = Prober(
                self._trainer,
                material,
                steps=self._config.adaptive.probe_steps,
                copies=self._config.adaptive.probes,
                seed=derive_seed(self._config.seed, "probe", number),
                journal=self._folder.round(number) / PROBES_FILE,
                on_probe=stage.advance,
            )
            return decide(
                usable,
                scores,
                self._config,
                min_share_of={scored.source_id: scored.min_share for scored in selected},
                earlier=self._earlier(number),
                measure=prober,
            )

    def seconds(self, number: int) -> float:
        """Return the seconds of all probes of a round, over interrupted attempts."""
        return sum(probe.seconds for probe in self._probes(number))

    def _probes(self, number: int) -> list[Probe]:
        return read_probes(self._folder.round(number) / PROBES_FILE)

    def _earlier(self, number: int) -> list[Probe]:
        return [probe for i in self._done_before(number) for probe in self._probes(i)]

    def _latest_choices(self, number: int) -> Mapping[str, float | None]:
        """Return the choices of the latest finished round before this one."""
        done = self._done_before(number)
        if not done:
            return {}
        return read_record(RoundRecord, self._folder.round(done[-1]) / "record.json").choices

    def _done_before(self, number: int) -> list[int]:
        return [i for i in range(number) if self._folder.round_is_done(i)]
