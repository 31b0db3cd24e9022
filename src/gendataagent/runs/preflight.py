"""Checks and decisions before a run costs anything."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from dataclasses import replace

from gendataagent.agent.decisions import with_machine_decided
from gendataagent.agent.filtering.text_agreement import TEXT_AGREEMENT, check_text_agreement
from gendataagent.agent.names import method_problems
from gendataagent.config import AUTO, GenerationConfig, RunConfig
from gendataagent.config.tracking import NO_TRACKER
from gendataagent.config.training import TIMM_PREFIX
from gendataagent.core.errors import ConfigError
from gendataagent.core.steps import executed_steps
from gendataagent.generation.backends import (
    TINY_SD,
    Backends,
    build_backends,
    checked,
    name_problems,
    path_problems,
)
from gendataagent.generation.diffusion.mirrors import STABLE_DIFFUSION_15


def problems(config: RunConfig) -> Iterator[str]:
    """Yield a sentence for each unknown name in the settings; loads nothing."""
    yield from method_problems(config)
    yield from name_problems(config)
    if config.filter.by == TEXT_AGREEMENT:
        yield from path_problems("filter.text_model", config.filter.text_model)
    if not config.classifier.model.startswith(TIMM_PREFIX):
        yield from path_problems("classifier.model", config.classifier.model)


def check_models(config: RunConfig, own: Backends | None = None) -> Backends | None:
    """Return the backends of a run, checked; None where it makes no images.

    Of hub models that are not on this machine only a small file is downloaded.

    Args:
        own: the caller's backends instead of those the settings name; they are not checked.

    Raises:
        ConfigError: an unknown selector or filter, or a setting that cannot be combined with the
            caller's own backends.
        ModelError: a model is missing, incomplete or of the wrong kind, or cannot be adapted.
    """
    from gendataagent.generation.adaptation.checks import checked_spec
    from gendataagent.training.backbones import check_model

    unknown = list(method_problems(config))
    if unknown:
        raise ConfigError(unknown)
    check_model(config.classifier, trust_remote_code=config.trust_remote_code)
    if own is not None and config.adaptation.enabled:
        raise ConfigError(
            "adaptation.enabled adapts the generator that the settings name, but your own backends "
            "were given; adapt your generator yourself and set adaptation.enabled=false"
        )
    if config.agent.enabled:
        check_text_agreement(config.filter)
    if own is not None or not config.agent.enabled:
        return own
    backends = checked(build_backends(config))
    if config.adaptation.enabled:
        checked_spec(config, backends.generator)
    return backends


def resolve_auto(
    config: RunConfig,
    *,
    device: str,
    typical_side_px: int,
    images: int | None = None,
    try_batch: bool = False,
) -> tuple[RunConfig, list[str]]:
    """Return the settings with every machine-dependent "auto" resolved, and notes for the user.

    Called once, when a run is started: a resume on another machine must not choose again.

    Args:
        typical_side_px: median shorter side of the images.
        images, try_batch: see `with_machine_decided`.
    """
    # here, because it imports torch
    from gendataagent.training.backbones import TINY_RESNET, TINY_RESNET_PX, choose_model

    notes = []
    if config.classifier.model == AUTO:
        model = choose_model(AUTO, typical_side_px=typical_side_px, device=device)
        config = replace(config, classifier=replace(config.classifier, model=model))
        if model == TINY_RESNET and typical_side_px > 2 * TINY_RESNET_PX:
            notes.append(
                f"No GPU was found, so the classifier is {TINY_RESNET}, which resizes images to "
                f"{TINY_RESNET_PX} px. Choose another with classifier.model."
            )
    if config.agent.enabled:
        notes.extend(few_step_notes(config.generation))
    wanted = config.generation.generator
    config = with_machine_decided(config, device, images=images, try_batch=try_batch)
    if config.agent.enabled and wanted == AUTO and config.generation.generator == TINY_SD:
        notes.append(
            "The generator is the bundled tiny-sd: 32 px images of the ten classes of CIFAR-10, "
            "for trying out only. For real work, on a machine with a GPU: "
            f"--generator {STABLE_DIFFUSION_15}"
        )
    return config, notes


def few_step_notes(settings: GenerationConfig) -> Iterator[str]:
    """Yield what follows from a generator or LoRA that is recognised as one for few steps.

    Args:
        settings: before anything is decided, to tell what the user has chosen.
    """
    few = settings.few_steps
    if few is None:
        return
    key = "few_step_lora" if settings.few_step_lora else "generator"
    sampler = "the model's own scheduler" if settings.sampler == AUTO else settings.sampler
    guided = "without" if settings.guidance <= 1 else f"with {settings.guidance:g} of"
    executed = ", ".join(
        f"{executed_steps(settings.steps, strength)} are executed at strength {strength:g}"
        for strength in settings.drawn_strengths
    )
    yield (
        f"generation.{key} is recognised as {few.family}: {sampler}, {settings.steps} steps of "
        f"which {executed}, {guided} guidance. For others set generation.scheduler, "
        "num_inference_steps, guidance_scale."
    )
    chosen = (
        ("scheduler", settings.scheduler, few.scheduler),
        ("guidance_scale", settings.guidance_scale, few.guidance_scale),
    )
    for name, value, distilled in chosen:
        no_guidance = name == "guidance_scale" and settings.guidance <= 1 >= few.guidance_scale
        if value not in (AUTO, distilled) and distilled != AUTO and not no_guidance:
            yield (
                f"generation.{name} is {value}, but {few.family} was distilled for {distilled}: "
                f"expect worse images, or --set generation.{name}=auto."
            )


def check_tracker(config: RunConfig) -> None:
    """Raise `ConfigError` if the tracker of the settings is not installed."""
    name = config.tracking.to
    if name == NO_TRACKER:
        return
    if importlib.util.find_spec(name) is None:
        install = "'gendataagent[tensorboard]'" if name == "tensorboard" else name
        raise ConfigError(
            f"tracking.to={name} needs the package {name}: pip install {install}; or set "
            "tracking.to=none"
        )
    from accelerate.tracking import LOGGER_TYPE_TO_CLASS

    if name not in LOGGER_TYPE_TO_CLASS:
        raise ConfigError(
            f"tracking.to={name} needs a newer accelerate: pip install --upgrade accelerate; this "
            f"one has {', '.join(sorted(map(str, LOGGER_TYPE_TO_CLASS)))}"
        )
