"""The names of selectors and filters in the settings."""

from __future__ import annotations

from collections.abc import Iterator

from gendataagent.agent.feedback.settings import feedback_problems
from gendataagent.agent.filtering import FILTERS
from gendataagent.agent.selection import SELECTORS
from gendataagent.config import RunConfig
from gendataagent.core.errors import ConfigError


def method_problems(config: RunConfig) -> Iterator[str]:
    """Yield a sentence for each unknown selector or filter in the settings."""
    for key, name, table in (
        ("selection.by", config.selection.by, SELECTORS),
        ("filter.by", config.filter.by, FILTERS),
    ):
        if name not in table:
            yield f"{key} must be one of {', '.join(table)}; got {name!r}"
            continue
        try:
            table[name]
        except ConfigError as error:  # of another package
            yield f"{key}: {error}"
    yield from feedback_problems(config)
