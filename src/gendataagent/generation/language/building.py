"""The chat model that a run's settings name."""

from __future__ import annotations

from gendataagent.config import RunConfig
from gendataagent.core.errors import ModelError
from gendataagent.core.hub import ModelSource
from gendataagent.generation.language.conversation import ChatModel

ENDPOINT = "endpoint"
_INSTALL = "pip install 'gendataagent[endpoint]'"


def build_chat(config: RunConfig, device: str) -> ChatModel:
    """Return the chat model of `config.prompting`; nothing is loaded or asked yet.

    Raises:
        ConfigError: for an endpoint without a usable address or model name.
        ModelError: the openai client is missing.
    """
    return _endpoint(config) if config.prompting.rewriter == ENDPOINT else _local(config, device)


def _endpoint(config: RunConfig) -> ChatModel:
    try:
        from gendataagent.generation.language.endpoint import EndpointChat
    except ImportError as error:
        if (error.name or "").startswith("gendataagent"):
            raise
        raise ModelError(
            f"prompting.rewriter=endpoint needs the package {error.name or 'openai'}, which cannot "
            f"be imported: {_INSTALL}"
        ) from error
    return EndpointChat(config.prompting)


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
