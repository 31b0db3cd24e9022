"""The rewriter that a run's settings ask for."""

from __future__ import annotations

from collections.abc import Callable

from gendataagent.config import RunConfig
from gendataagent.core.hub import ModelSource
from gendataagent.core.protocols import PromptRewriter
from gendataagent.generation.language.conversation import ChatModel
from gendataagent.generation.language.rewriter import LanguageModelRewriter
from gendataagent.generation.language.validator import Guard

ENDPOINT = "endpoint"


def from_config(
    config: RunConfig,
    device: str,
    *,
    template: PromptRewriter,
    count_tokens: Callable[[str], int] | None = None,
    token_limit: int = 0,
) -> LanguageModelRewriter:
    """Return the rewriter of `config.prompting`; nothing is loaded or asked yet.

    Args:
        template: takes over where the language model's replies do not pass.
        count_tokens, token_limit: the generator's text encoder, see `guard.Guard`.

    Raises:
        ConfigError: for an endpoint without a usable address or model name.
    """
    settings = config.prompting
    guard = Guard(
        words_at_most=settings.rewrite_words, count_tokens=count_tokens, token_limit=token_limit
    )
    chat = _endpoint(config) if settings.rewriter == ENDPOINT else _local(config, device)
    return LanguageModelRewriter(chat, guard, template=template, tries=settings.rewrite_tries)


def _endpoint(config: RunConfig) -> ChatModel:
    from gendataagent.generation.language.endpoint import EndpointChat
    from gendataagent.generation.language.transport import Endpoint

    settings = config.prompting
    endpoint = Endpoint(
        url=settings.endpoint_url,
        model=settings.endpoint_model,
        key_variable=settings.endpoint_key_variable,
        timeout_s=settings.endpoint_timeout_s,
        concurrency=settings.endpoint_concurrency,
        retries=settings.endpoint_retries,
    )
    return EndpointChat(
        endpoint, temperature=settings.rewrite_temperature, top_p=settings.rewrite_top_p
    )


def _local(config: RunConfig, device: str) -> ChatModel:
    from gendataagent.generation.language.local import KIND, LocalChat

    settings = config.prompting
    source = ModelSource(
        setting="prompting.rewriter",
        kind=KIND,
        name=settings.rewriter,
        revision=settings.rewriter_revision,
        trust_remote_code=config.trust_remote_code,
        instead="prompting.rewriter=visible-attributes needs no model.",
    )
    return LocalChat(
        source,
        device=device,
        batch_size=settings.batch_size,
        temperature=settings.rewrite_temperature,
        top_p=settings.rewrite_top_p,
        dtype=settings.dtype,
    )
