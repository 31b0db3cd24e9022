"""Every setting of a run: a tree of frozen dataclasses, read from and written to TOML.

Each setting has its help text, unit, limits and source next to its default: `gendataagent config`
and the checks use the same ones. Sources are tagged as in
docs/method.md: [S] stated in the paper's supplementary, [R] reported second-hand, [C] read in cited
code, [I] inferred, [?] open; no tag = ours.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self, cast

import tomli_w

from gendataagent.config.adaptation import AdaptationConfig, adaptation_problems
from gendataagent.config.agent import (
    AdaptiveConfig,
    AgentConfig,
    FilterConfig,
    SelectionConfig,
)
from gendataagent.config.data import DataConfig
from gendataagent.config.few_steps import recognise_lora
from gendataagent.config.generation import GenerationConfig
from gendataagent.config.prompting import PromptingConfig
from gendataagent.config.settings import (
    PERMISSION,
    apply_overrides,
    build,
    plain,
    read_settings,
    result_settings,
    setting,
)
from gendataagent.config.tracking import TrackingConfig
from gendataagent.config.training import ClassifierConfig, TrainingConfig
from gendataagent.core.devices import AUTO
from gendataagent.core.errors import ConfigError
from gendataagent.core.records import FROM_NOISE, RETRIEVAL, WITH_EDGES
from gendataagent.core.steps import executed_steps

__all__ = [
    "AUTO",
    "AdaptationConfig",
    "AdaptiveConfig",
    "AgentConfig",
    "ClassifierConfig",
    "ConfigCheck",
    "DataConfig",
    "FilterConfig",
    "GenerationConfig",
    "PromptingConfig",
    "RunConfig",
    "SelectionConfig",
    "TrackingConfig",
    "TrainingConfig",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class RunConfig:
    """All settings of a run."""

    seed: int = setting(0, "all random choices are derived from it", at_least=0)
    device: str = setting(
        AUTO, "cpu, cuda, cuda:1, mps; auto = cuda, else mps, else cpu", affects_results=False
    )
    threads: int = setting(
        0,
        "CPU threads for torch, also in each worker; 0 = torch's default divided by "
        "generation.workers, fixed when the run is made: sums of another number round differently",
        at_least=0,
    )
    trust_remote_code: bool = setting(
        False,
        "run the Python code that comes with a model, if you have read it; in no file, only by "
        "--trust-remote-code or from Python, each time",
        affects_results=False,
    )
    data: DataConfig = field(default_factory=DataConfig)
    classifier: ClassifierConfig = field(default_factory=ClassifierConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    agent: AgentConfig = field(default_factory=AgentConfig)
    selection: SelectionConfig = field(default_factory=SelectionConfig)
    prompting: PromptingConfig = field(default_factory=PromptingConfig)
    generation: GenerationConfig = field(default_factory=GenerationConfig)
    adaptation: AdaptationConfig = field(default_factory=AdaptationConfig)
    filter: FilterConfig = field(default_factory=FilterConfig)
    adaptive: AdaptiveConfig = field(default_factory=AdaptiveConfig)
    tracking: TrackingConfig = field(default_factory=TrackingConfig)

    @classmethod
    def from_dict(cls, tree: Mapping[str, Any], *checks: ConfigCheck) -> Self:
        """Return the config of a nested mapping; raise `ConfigError` with every problem found.

        Args:
            checks: further checks (such as `preflight.problems`) whose findings are added.
        """
        problems: list[str] = []
        config = cast(Self, build(cls, tree, "", problems))
        for check in (_cross_checks, _adaptive_checks, *checks):
            problems.extend(check(config))
        if problems:
            raise ConfigError(problems)
        return config

    @classmethod
    def from_toml(
        cls, path: str | Path, overrides: Sequence[str] = (), *checks: ConfigCheck
    ) -> Self:
        """Return the config of a TOML file with `section.key=value` overrides on top."""
        return cls.from_dict(apply_overrides(read_settings(path), overrides), *checks)

    def with_adaptation(self, folder: str) -> Self:
        """Return the settings with what the adaptation has made in `folder`, instead of with it."""
        named: dict[str, Any] = dict.fromkeys(self.adaptation.makes, folder)
        return replace(
            self,
            adaptation=replace(self.adaptation, enabled=False),
            generation=replace(self.generation, **named),
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the settings as nested plain values (tuples become lists)."""
        return cast(dict[str, Any], plain(self))

    def to_toml(self) -> str:
        """Return the settings as TOML that `from_toml` reads back to an equal config.

        Whether code of a model may be run is left out: a file must not decide that.
        """
        return tomli_w.dumps({k: v for k, v in self.to_dict().items() if k != PERMISSION})

    def results_hash(self) -> str:
        """Return a hash of every setting that can change the results."""
        tree = {
            row.key: row.value if not isinstance(row.value, tuple) else list(row.value)
            for row in result_settings(self)
        }
        return hashlib.blake2b(
            json.dumps(tree, sort_keys=True).encode(), digest_size=16
        ).hexdigest()


def _cross_checks(config: RunConfig) -> Iterator[str]:
    """Yield problems that concern more than one setting."""
    agent, training = config.agent, config.training
    first = max(0, agent.first_round_epoch)
    if agent.enabled and first >= training.epochs:
        yield (
            f"agent.first_round_epoch ({agent.first_round_epoch}) must be below training.epochs "
            f"({training.epochs}), or no round ever happens"
        )
    elif agent.enabled and agent.last_epoch(training.epochs) - first < agent.rounds + agent.overlap:
        later = " With agent.overlap the last images need one more" if agent.overlap else ""
        yield (
            f"agent.rounds ({agent.rounds}) must be at most agent.rounds_within x training.epochs "
            f"- agent.first_round_epoch ({agent.last_epoch(training.epochs) - first}): at most one "
            f"round stands before an epoch{later}"
        )
    if isinstance(training.processes, int) and training.processes > training.batch_size:
        yield (
            f"training.processes ({training.processes}) must be at most training.batch_size "
            f"({training.batch_size}): each takes its part of the batch"
        )
    yield from adaptation_problems(config.adaptation, config.generation)
    if agent.enabled and agent.is_guarded and not training.real_images:
        yield (
            "agent.guard continues on real images alone where synthetic ones hurt, which "
            "training.real_images = false does not allow; change one of the two"
        )
    if training.sibling_replacement and not training.real_images:
        yield (
            "training.sibling_replacement replaces real images, but training.real_images = false "
            "trains on none; change one of the two"
        )
    if training.synthetic_share and (training.sibling_replacement or not training.real_images):
        other = "sibling_replacement" if training.sibling_replacement else "real_images = false"
        yield (
            f"training.synthetic_share sets how many of the images of a step are synthetic, and so "
            f"does training.{other}; use one of the two"
        )
    prompting = config.prompting
    if prompting.rewriter == "contexts" and prompting.captioner == "none":
        yield (
            "prompting.rewriter = contexts gives an image the caption of another one, but "
            "prompting.captioner = none writes no captions; name a captioner"
        )
    if prompting.rewriter == "endpoint":
        for key in ("endpoint_url", "endpoint_model"):
            if not getattr(prompting, key):
                yield f"prompting.{key} is required with prompting.rewriter = endpoint"
    generation = config.generation
    least = min(generation.drawn_strengths)
    if executed_steps(generation.steps, least) < 1:
        key = "min(generation.strengths)" if generation.strengths else "generation.strength"
        yield (
            f"generation.num_inference_steps * {key} must be at least 1 executed step, got "
            f"{generation.steps} * {least:g}; raise one of the two"
        )
    has_edges = generation.condition == WITH_EDGES
    if generation.start == FROM_NOISE and generation.prompt_class != "own" and not has_edges:
        yield (
            "generation.prompt_class = other mixes the source image with another class, but "
            "generation.start = noise takes nothing from the source; change one of the two"
        )
    marks = generation.edge_thresholds
    if len(marks) != 2 or marks[0] > marks[1]:
        yield f"generation.edge_thresholds must be a low and a high threshold, got {list(marks)}"
    if has_edges and generation.generator == RETRIEVAL:
        yield (
            "generation.condition = edges needs a diffusion generator, but generation.generator = "
            "retrieval only finds images; change one of the two"
        )
    yield from _few_step_problems(generation)
    for key, marks in (
        ("training.decay_milestones", training.decay_milestones),
        ("filter.snapshot_at", config.filter.snapshot_at),
    ):
        if any(not 0 < mark <= 1 for mark in marks) or list(marks) != sorted(set(marks)):
            yield f"{key} must be increasing shares of the epochs in (0, 1], got {list(marks)}"
    yield from _feedback_problems(config)
    if config.data.validation_share + config.data.test_share > 0.8:
        yield (
            "data.validation_share + data.test_share must leave at least 0.2 for training, got "
            f"{config.data.validation_share:g} + {config.data.test_share:g}"
        )


def _few_step_problems(settings: GenerationConfig) -> Iterator[str]:
    """Yield problems of LoRAs for few steps."""
    open_keys = [
        f"generation.{key}"
        for key in ("scheduler", "num_inference_steps", "guidance_scale")
        if getattr(settings, key) == AUTO
    ]
    few = recognise_lora(settings.few_step_lora)
    if settings.few_step_lora and few is None and open_keys:
        yield (
            f"generation.few_step_lora: nothing in the name or metadata of "
            f"{settings.few_step_lora!r} says that it is an LCM, TCD, Hyper-SD, SDXL-Lightning or "
            f"Turbo LoRA; set {', '.join(open_keys)} to what it was distilled for"
        )
    named = recognise_lora(settings.lora)
    if named and not settings.few_step_lora and open_keys:
        yield (
            f"generation.lora: {settings.lora!r} is a {named.family} LoRA, for few steps; name it "
            "as generation.few_step_lora instead, which uses it at full strength with its "
            f"scheduler, or set {', '.join(open_keys)} yourself"
        )


def _feedback_problems(config: RunConfig) -> Iterator[str]:
    """Yield problems of the feedback settings."""
    settings = config.generation
    steps = settings.feedback_steps
    if len(steps) != 2 or not 0 <= steps[0] < steps[1] <= 1:
        yield (
            "generation.feedback_steps must be two increasing shares from 0 to 1, got "
            f"{list(steps)}"
        )
    if settings.feedback == "none" or not config.agent.enabled:
        return
    if settings.feedback_first_round >= config.agent.rounds:
        yield (
            f"generation.feedback_first_round ({settings.feedback_first_round}) must be below "
            f"agent.rounds ({config.agent.rounds}), or no round has feedback"
        )


def _adaptive_checks(config: RunConfig) -> Iterator[str]:
    """Yield problems of the values that [adaptive] tries."""
    adaptive = config.adaptive
    for key, values, least, most in (
        ("strengths", adaptive.strengths, 0.01, 1.0),
        ("shares", adaptive.shares, 0.001, 1.0),
        ("drop_shares", adaptive.drop_shares, 0.0, 0.99),
    ):
        in_range = all(least <= value <= most for value in values)
        if len(values) == 1 or not in_range or list(values) != sorted(set(values)):
            yield (
                f"adaptive.{key} must be two or more increasing values from {least:g} to {most:g}, "
                f"or empty to leave the setting unchanged; got {list(values)}"
            )
    if not (adaptive.enabled and config.agent.enabled):
        return
    if not config.training.real_images:
        yield (
            "adaptive.enabled compares with training on the real images alone, so "
            "training.real_images must be true"
        )
    if adaptive.strengths and config.generation.strengths:
        yield (
            "adaptive.strengths tries strengths and generation.strengths draws them; empty one of "
            "the two lists"
        )
    if adaptive.strengths and config.generation.start == FROM_NOISE:
        yield (
            "adaptive.strengths tries strengths, but with generation.start = noise strength is 1; "
            "set adaptive.strengths=[]"
        )
    steps = config.generation.steps
    if adaptive.strengths and executed_steps(steps, min(adaptive.strengths)) < 1:
        yield (
            "generation.num_inference_steps * min(adaptive.strengths) must be at least 1 executed "
            f"step, got {steps} * {min(adaptive.strengths):g}"
        )
    images, widest = (
        config.selection.share * config.prompting.rewrites,
        max(adaptive.shares, default=0),
    )
    if widest > images + 1e-9:
        yield (
            f"the largest of adaptive.shares ({widest:g}) selects more sources than a round makes "
            f"images (selection.share * prompting.rewrites = {images:g} of the training set); "
            "lower it, or raise prompting.rewrites"
        )


ConfigCheck = Callable[[RunConfig], Iterable[str]]
