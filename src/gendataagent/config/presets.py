"""Settings by name: TOML files in assets/presets, each with a line on what it is for."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from gendataagent.config.settings import read_toml
from gendataagent.core.errors import ConfigError
from gendataagent.core.suggestions import did_you_mean

_FOLDER = Path(str(files("gendataagent.config"))) / "assets" / "presets"


@dataclass(frozen=True, slots=True)
class Preset:
    """One preset: its name and what the first comment line of its file says."""

    name: str
    about: str


def list_presets() -> list[Preset]:
    """Return every preset, by name."""
    return [
        Preset(path.stem, path.read_text(encoding="utf-8").split("\n", 1)[0].lstrip("# "))
        for path in sorted(_FOLDER.glob("*.toml"))
    ]


def preset_settings(name: str) -> dict[str, Any]:
    """Return the settings of a preset as a tree; raise `ConfigError` naming those there are.

    A preset that leaves the data to the user has `data.path = ""`.
    """
    return read_toml(_file(name))


def preset_text(name: str) -> str:
    """Return a preset as written, with the comments that say where each value comes from.

    Raises:
        ConfigError: there is no such preset.
    """
    return _file(name).read_text(encoding="utf-8")


def _file(name: str) -> Path:
    names = [preset.name for preset in list_presets()]
    if name not in names:
        raise ConfigError(f"there is no preset {name!r}; {did_you_mean(name, names)}")
    return _FOLDER / f"{name}.toml"
