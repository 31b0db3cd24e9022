"""What is checked and decided before a run costs anything."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from gendataagent.agent.names import method_problems
from gendataagent.config import AUTO, RunConfig
from gendataagent.core.errors import ConfigError
from gendataagent.generation.backends import (
    STABLE_DIFFUSION_15,
    TINY_SD,
    Checked,
    build_backends,
    name_problems,
    path_problems,
    with_backends_chosen,
)

TIMM_PREFIX = "timm:"


def problems(config: RunConfig) -> Iterator[str]:
    """Yield a sentence for each unknown name in the settings; loads nothing."""
    yield from method_problems(config)
    yield from name_problems(config)
    if not config.classifier.model.startswith(TIMM_PREFIX):
        yield from path_problems("classifier.model", config.classifier.model)


def check_models(config: RunConfig, device: str, *, own_backends: bool = False) -> None:
    """Raise for a model that can be seen to be unusable, before the run has cost anything.

    Loads no weights; of hub models that are not on this machine only a small file is fetched.

    Args:
        own_backends: captioner, rewriter and generator are the caller's own, not the settings'.

    Raises:
        ConfigError: a setting does not fit together with backends of one's own.
        ModelError: with what to do.
    """
    from gendataagent.training.backbones import check_model

    check_model(config.classifier, trust_remote_code=config.trust_remote_code)
    if own_backends and config.adaptation.enabled:
        raise ConfigError(
            "adaptation.enabled is for the generator that the settings name, but backends of your "
            "own were given; adapt it yourself, and set adaptation.enabled=false"
        )
    if config.agent.enabled and not own_backends:
        backends = build_backends(config)
        for part in (backends.captioner, backends.rewriter, backends.generator):
            if isinstance(part, Checked):
                part.check()


def resolve_auto(
    config: RunConfig, *, device: str, typical_side_px: int
) -> tuple[RunConfig, list[str]]:
    """Return the settings with every machine-dependent "auto" decided, and notes for the user.

    Done once, when a run is made: a resume on another machine must not choose anew.

    Args:
        typical_side_px: usual shorter side of the images.
    """
    # torch comes with it, so only here
    from gendataagent.training.backbones import TINY_RESNET, TINY_RESNET_PX, choose_model

    notes = []
    if config.classifier.model == AUTO:
        model = choose_model(AUTO, typical_side_px=typical_side_px, device=device)
        config = replace(config, classifier=replace(config.classifier, model=model))
        if model == TINY_RESNET and typical_side_px > 2 * TINY_RESNET_PX:
            notes.append(
                f"No GPU was found, so the classifier is {TINY_RESNET}, which sees images at "
                f"{TINY_RESNET_PX} px. Name another with classifier.model."
            )
    wanted = config.generation.generator
    config = with_backends_chosen(config, device)
    if config.agent.enabled and wanted == AUTO and config.generation.generator == TINY_SD:
        notes.append(
            "The generator is the bundled tiny-sd: 32 px images of the ten classes of "
            "CIFAR-10, made for trying out. For real work name one on a machine with a GPU: "
            f"--generator {STABLE_DIFFUSION_15}"
        )
    return config, notes
