"""Score candidates by an image-text encoder, such as CLIP, that knows nothing of the data.

He et al., ICLR 2023: images whose own class is unlikely by CLIP among all classes are dropped.
"""

from __future__ import annotations

from gendataagent.agent.filtering.verdicts import FilterContext, FilterScores
from gendataagent.config import FilterConfig
from gendataagent.core.errors import GenDataAgentError
from gendataagent.core.hub import ModelSource
from gendataagent.generation.prompts import compose_prompt

TEXT_AGREEMENT = "text-agreement"


def text_agreement_scores(context: FilterContext) -> FilterScores:
    """Return p(own class | candidate), shape [N], among "A photo of [class]" of all classes.

    The encoder sees each image as it was made, not at the classifier's size.

    Raises:
        ModelError: the encoder cannot be loaded.
        GenDataAgentError: the context has no images as they were made.
    """
    from gendataagent.generation.image_text import ImageTextEncoder  # imports torch

    image_of, candidates = context.image_of, context.candidates
    if image_of is None:
        raise GenDataAgentError(
            f"filter.by={TEXT_AGREEMENT} reads images; pass FilterContext(image_of=...)"
        )
    names = context.classifier.class_names
    encoder = ImageTextEncoder(source_of(context.config), context.classifier.device)
    try:
        probabilities_NC = encoder.probabilities(
            lambda i: image_of(candidates[i]),
            len(candidates),
            [compose_prompt(name, "") for name in names],
        )
    finally:
        encoder.release()
    rows = [(row, candidate.label) for row, candidate in enumerate(candidates)]
    return FilterScores(probabilities_NC.numpy()[tuple(zip(*rows, strict=True))])


def source_of(config: FilterConfig) -> ModelSource:
    """Return where the encoder of the settings comes from."""
    from gendataagent.generation.image_text import text_model_source

    return text_model_source("filter.text_model", config.text_model, config.text_model_revision)


def check_text_agreement(config: FilterConfig) -> None:
    """Raise `ModelError` if the filter is this one and its encoder cannot be used."""
    if config.by == TEXT_AGREEMENT:
        from gendataagent.generation.image_text import check_text_model

        check_text_model(source_of(config))
