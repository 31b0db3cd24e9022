"""Whether a generator can be adapted, before anything is spent on it."""

from __future__ import annotations

import warnings
from typing import Any

from gendataagent.config import RunConfig
from gendataagent.core import hub
from gendataagent.core.errors import ConfigError
from gendataagent.generation.diffusion import DiffusionSpec
from gendataagent.generation.diffusion.mirrors import with_mirrors


def checked_spec(config: RunConfig, generator: Any) -> DiffusionSpec:
    """Return the specification of a generator that can be adapted as the settings say.

    Its weights are not loaded; of a hub model that is not on this machine nothing is checked yet.

    Raises:
        ConfigError: it is no pipeline of diffusers.
        ModelError: it is one that this cannot adapt.
    """
    if not isinstance(generator, DiffusionSpec):
        raise ConfigError(
            "generation.generator must be a diffusers pipeline to be adapted, got "
            f"{config.generation.generator!r}"
        )
    # here, because they import torch
    from gendataagent.generation.adaptation.lora_layers import check_adaptable
    from gendataagent.generation.diffusion.parts import pipeline_without_weights
    from gendataagent.generation.diffusion.token_embeddings import check_takes_tokens

    sources = with_mirrors(generator.source)
    source = next((source for source in sources if hub.is_here(source)), None)
    if source is None:
        return generator
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what can be checked only by loading it
        pipeline = pipeline_without_weights(source, variant=generator.variant)
    if pipeline is not None:
        if config.adaptation.trains_tokens:
            check_takes_tokens(pipeline)
        check_adaptable(pipeline)
    return generator
