"""Settings given as keyword arguments: `epochs=40`, `training={"batch_size": 64}`."""

from __future__ import annotations

import difflib
from collections import defaultdict
from collections.abc import Mapping
from typing import Any

from gendataagent.config import ConfigCheck, RunConfig
from gendataagent.config.settings import iterate_settings, merged
from gendataagent.core.errors import ConfigError

OPTIONAL_STEP = "adaptation."  # a name that it shares with one other section means that section


def with_keywords(
    config: RunConfig, settings: Mapping[str, Any], *checks: ConfigCheck
) -> RunConfig:
    """Return `config` with `settings` on top.

    Args:
        settings: by the name of a setting if only one section has it ([adaptation] not counted,
            so that `epochs` is training.epochs), by `section.name`, or a mapping for a section.

    Raises:
        ConfigError: a name is unknown or several sections have it, or a value is wrong; all
            problems at once.
    """
    keys_of: dict[str, list[str]] = defaultdict(list)
    keys: list[str] = []
    for row in iterate_settings(RunConfig()):
        keys.append(row.key)
        keys_of[row.key.rpartition(".")[2]].append(row.key)
    sections = {key.partition(".")[0] for key in keys if "." in key}
    tree: dict[str, Any] = config.to_dict()
    problems: list[str] = []
    for name, value in settings.items():
        found = keys_of.get(name, [])
        found = [key for key in found if not key.startswith(OPTIONAL_STEP)] or found
        if name in sections or "." in name or len(found) == 1:
            key = found[0] if len(found) == 1 and name not in sections else name
            for part in reversed(key.split(".")):
                value = {part: value}
            tree = merged(tree, value)
        elif found:
            listed = " and ".join(found)
            problems.append(
                f"{name} is a setting of several sections: {listed}. Give it as "
                f'**{{"{found[0]}": ...}} or {found[0].partition(".")[0]}={{"{name}": ...}}'
            )
        else:
            problems.append(f"unknown setting {name}{_suggestion(name, keys_of)}")
    try:
        result = RunConfig.from_dict(tree, *checks)
    except ConfigError as error:
        raise ConfigError([*problems, *error.problems]) from None
    if problems:
        raise ConfigError(problems)
    return result


def _suggestion(name: str, keys_of: Mapping[str, list[str]]) -> str:
    close = difflib.get_close_matches(name, list(keys_of), n=1)
    if not close:
        return "; `gendataagent config` lists all settings"
    return f"; did you mean {close[0]} ({', '.join(keys_of[close[0]])})?"
