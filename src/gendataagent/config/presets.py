"""Presets: TOML files in assets/presets whose first line says what they are for."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from gendataagent.config.settings import read_settings
from gendataagent.core.errors import ConfigError
from gendataagent.core.suggestions import did_you_mean

_FOLDER = Path(str(files("gendataagent.config"))) / "assets" / "presets"


@dataclass(frozen=True, slots=True)
class Preset:
    """A preset's name and the first comment line of its file."""

    name: str
    about: str


def list_presets() -> list[Preset]:
    """Return every preset, by name."""
    return [
        Preset(path.stem, path.read_text(encoding="utf-8").split("\n", 1)[0].lstrip("# "))
        for path in sorted(_FOLDER.glob("*.toml"))
    ]


def preset_settings(name: str) -> dict[str, Any]:
    """Return the settings of a preset; raise `ConfigError` for an unknown name.

    A preset that leaves the data to the user has `data.path = ""`.
    """
    return read_settings(_file(name))


def preset_text(name: str) -> str:
    """Return a preset's file, with its comments on the source of each value.

    Raises:
        ConfigError: there is no such preset.
    """
    return _file(name).read_text(encoding="utf-8")


def _file(name: str) -> Path:
    names = [preset.name for preset in list_presets()]
    if name not in names:
        raise ConfigError(f"there is no preset {name!r}; {did_you_mean(name, names)}")
    return _FOLDER / f"{name}.toml"
