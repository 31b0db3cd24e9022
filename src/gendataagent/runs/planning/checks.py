"""What a plan refuses: the models that a run would refuse, as far as this machine shows it."""

from __future__ import annotations

from dataclasses import replace

from gendataagent.agent.names import method_problems
from gendataagent.config import RunConfig
from gendataagent.core.errors import ConfigError
from gendataagent.core.files import expand
from gendataagent.core.hub import looks_like_path
from gendataagent.core.records import RETRIEVAL, WITH_EDGES
from gendataagent.generation.backends import TINY_SD, name_problems
from gendataagent.generation.diffusion.class_loras import read_class_loras
from gendataagent.generation.diffusion.class_tokens import read_class_tokens
from gendataagent.generation.diffusion.lora import is_on_hub
from gendataagent.generation.diffusion.mirrors import STABLE_DIFFUSION_15
from gendataagent.generation.language.building import ENDPOINT
from gendataagent.runs.planning.costs import controlnet_facts, generator_facts
from gendataagent.runs.preflight import check_models


def check_models_here(config: RunConfig) -> None:
    """Raise what a run raises for names, addresses, and models in folders; uses no network.

    The classes of models in folders are imported, but no weights are loaded.

    Raises:
        ConfigError: an unknown name, or a setting that does not suit a model.
        ModelError: a model is missing, incomplete or of the wrong kind.
        DataError: the folder of a retrieval has no images.
    """
    found = [*method_problems(config), *(name_problems(config) if config.agent.enabled else [])]
    if found:
        raise ConfigError(found)
    generation, prompting = config.generation, config.prompting
    if config.agent.enabled and prompting.rewriter == ENDPOINT:
        from gendataagent.generation.language.transport import check_address

        check_address(prompting)
    if config.agent.enabled and generation.generator == RETRIEVAL:
        from gendataagent.generation.retrieval import RetrievalFactory

        RetrievalFactory.from_config(config, "cpu").check_folder()
    generator = generation.generator if _is_here(generation.generator) else TINY_SD
    # Whether weights fit can only be seen beside the generator; that they are missing, always.
    lora, few_step_lora = (
        "" if is_on_hub(name) or (generator == TINY_SD and expand(name).exists()) else name
        for name in (generation.lora, generation.few_step_lora)
    )
    # Likewise whether a ControlNet fits.
    stands_in = generator != generation.generator
    condition = "none" if stands_in or not _is_here(generation.controlnet) else generation.condition
    if config.agent.enabled and generation.class_tokens:
        read_class_tokens(generation.class_tokens)
    if config.agent.enabled and generation.class_loras:
        read_class_loras(generation.class_loras).check()
    class_tokens, class_loras = (
        "" if stands_in else name for name in (generation.class_tokens, generation.class_loras)
    )
    captioner = prompting.captioner if _is_here(prompting.captioner) else "none"
    rewriter = prompting.rewriter if _is_here(prompting.rewriter) else "none"
    classifier = config.classifier
    if not _is_here(classifier.model):
        classifier = replace(classifier, model="auto")
    with_images = config.agent.enabled and (
        generator != TINY_SD
        or lora
        or few_step_lora
        or class_tokens
        or class_loras
        or condition != "none"
        or captioner != "none"
        or rewriter != "none"
    )
    if not with_images and classifier.model == "auto":
        return  # what follows imports torch
    check_models(
        replace(
            config,
            device="cpu",
            classifier=classifier,
            agent=replace(config.agent, enabled=bool(with_images)),
            generation=replace(
                generation,
                generator=generator,
                lora=lora,
                few_step_lora=few_step_lora,
                class_tokens=class_tokens,
                class_loras=class_loras,
                condition=condition,
                image_cache="",
            ),
            prompting=replace(prompting, captioner=captioner, rewriter=rewriter),
        )
    )


def check_known_controlnet(config: RunConfig) -> None:
    """Raise `ConfigError` if a ControlNet is for another generator, by what is known of both.

    Args:
        config: with every "auto" decided.
    """
    settings = config.generation
    if not config.agent.enabled or settings.condition != WITH_EDGES:
        return
    known = generator_facts(settings.generator), controlnet_facts(settings.controlnet)
    traits = {(*f.block_out_channels, f.cross_attention_dim) for f in known if f is not None}
    if len(traits) > 1:
        raise ConfigError(
            f"generation.controlnet: {settings.controlnet} is for another model than the "
            f"generator {settings.generator}; name one that was made for it, or another generator: "
            f"the default ControlNet is for {STABLE_DIFFUSION_15}"
        )


def _is_here(name: str) -> bool:
    """Return whether a model is named by a path, there or not."""
    return bool(name) and (expand(name).exists() or looks_like_path(name))
