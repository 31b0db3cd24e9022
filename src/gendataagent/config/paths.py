"""Settings that name a place on this machine: stored absolute, compared by content.

A run means the same from every working folder, and can be resumed when its data or a model has
moved. Whether the content at the new place is the same is checked where it is read.
"""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

from gendataagent.config import RunConfig
from gendataagent.config.settings import SettingRow, iterate_settings, result_settings

_PREFIXES = ("bundled:", "timm:")
_HUB = "hub:"  # hub:./folder:CONFIG is a folder on this machine


def is_place(row: SettingRow) -> bool:
    """Return whether a setting's value is a path: absolute, or of something that exists here."""
    value = row.value
    if not row.setting.path or not isinstance(value, str) or value in ("", *row.setting.names):
        return False
    if value.startswith(_PREFIXES):
        return False
    prefix, text, _ = _parts(value)
    try:
        place = Path(text).expanduser()
        if prefix:
            return text.startswith((".", "~", os.sep)) and place.is_dir()
        return place.is_absolute() or place.exists()
    except (OSError, RuntimeError, ValueError):  # no such home, or no possible name
        return False


def with_absolute_paths(config: RunConfig) -> RunConfig:
    """Return the settings with each path absolute; links are not resolved."""
    rows = [row for row in iterate_settings(config) if is_place(row)]
    return _with(config, {row.key: _absolute(row.value) for row in rows})


def _parts(value: str) -> tuple[str, str, str]:
    """Return prefix, path and the rest of a value, of which only hub:PATH:CONFIG has three."""
    if not value.startswith(_HUB):
        return "", value, ""
    path, colon, rest = value.removeprefix(_HUB).partition(":")
    return _HUB, path, colon + rest


def _absolute(value: str) -> str:
    prefix, path, rest = _parts(value)
    return prefix + os.path.abspath(Path(path).expanduser()) + rest


def with_paths_of(config: RunConfig, other: RunConfig) -> RunConfig:
    """Return `config` with the paths of `other`, for settings that are paths in both."""
    theirs = {row.key: row.value for row in iterate_settings(other) if is_place(row)}
    mine = [row.key for row in iterate_settings(config) if is_place(row)]
    return _with(config, {key: theirs[key] for key in mine if key in theirs})


def settings_hash(config: RunConfig) -> str:
    """Return a hash of every setting that can change results, but for where things are."""
    tree = {row.key: "a path" if is_place(row) else row.value for row in result_settings(config)}
    text = json.dumps(tree, sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def _with(config: RunConfig, values: dict[str, Any]) -> RunConfig:
    if not values:
        return config
    tree = config.to_dict()
    for key, value in values.items():
        section, _, name = key.rpartition(".")
        (tree[section] if section else tree)[name] = value
    return RunConfig.from_dict(tree)
