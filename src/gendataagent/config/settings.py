"""How settings work: fields with help and limits, TOML, checks, overrides."""

from __future__ import annotations

import dataclasses
import json
import tomllib
import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gendataagent.core.errors import ConfigError
from gendataagent.core.files import read_bytes
from gendataagent.core.suggestions import did_you_mean

_SHOWN = 80  # characters of a value in a message
PERMISSION = "trust_remote_code"  # the setting that no file may have
_HUGE = 2**62  # TOML integers end at 2**63


@dataclass(frozen=True, slots=True)
class Setting:
    """Help, limits and source of one setting.

    Args:
        affects_results: False for settings that change speed or display but no result; only those
            may change when a run is resumed.
        path: whether the value may be a path; see `config.paths`.
        names: values that are never paths, though a folder may be called so.
        switch: whether its default is to leave results as if there was no such setting. It is then
            left out of hashes, so that a new switch renames no finished run.
    """

    help: str
    unit: str = ""
    source: str = ""
    choices: tuple[str, ...] = ()
    at_least: float | None = None
    above: float | None = None
    at_most: float | None = None
    affects_results: bool = True
    path: bool = False
    names: tuple[str, ...] = ()
    switch: bool = False


def setting(default: Any, help: str, **details: Any) -> Any:
    """Return a dataclass field with its `Setting` attached; `details` are fields of `Setting`."""
    return field(default=default, metadata={"setting": Setting(help, **details)})


@dataclass(frozen=True, slots=True)
class SettingRow:
    """One setting as `gendataagent config` lists it; `key` is `section.name`."""

    key: str
    value: Any
    default: Any
    setting: Setting


def iterate_settings(config: Any) -> Iterator[SettingRow]:
    """Yield every setting of the tree in order of definition."""
    for top in dataclasses.fields(config):
        value = getattr(config, top.name)
        if not dataclasses.is_dataclass(value):
            yield SettingRow(top.name, value, top.default, top.metadata["setting"])
            continue
        for leaf in dataclasses.fields(value):
            yield SettingRow(
                f"{top.name}.{leaf.name}",
                getattr(value, leaf.name),
                leaf.default,
                leaf.metadata["setting"],
            )


def result_settings(config: Any) -> Iterator[SettingRow]:
    """Yield every setting that can change results; a switch only where it is not at its default."""
    for row in iterate_settings(config):
        at_rest = row.setting.switch and row.value == row.default
        if row.setting.affects_results and not at_rest:
            yield row


def read_settings(path: str | Path) -> dict[str, Any]:
    """Return the settings in a user's TOML file.

    Raises:
        ConfigError: the file cannot be read, or permits a model's code to be run.
    """
    tree = read_toml(path)
    if tree.pop(PERMISSION, False) is not False:
        raise ConfigError(
            f"{path}: {PERMISSION} has no effect in a file, because a file may come from someone "
            "else. Remove the line; if you have read the model's code, give --trust-remote-code "
            f"each time (in Python: {PERMISSION}=True)"
        )
    return tree


def read_settings_of_run(path: str | Path) -> dict[str, Any]:
    """Return the settings that a run has written; a permission to run code is left out."""
    tree = read_toml(path)
    tree.pop(PERMISSION, None)
    return tree


def read_toml(path: str | Path) -> dict[str, Any]:
    """Return the content of a TOML file, which may begin with a byte order mark.

    Raises:
        ConfigError: naming the file, and the position of what is not TOML.
    """
    try:
        text = read_bytes(path).decode("utf-8-sig")
    except OSError as error:
        reason = error.strerror or error
        raise ConfigError(f"cannot read the config file {path}: {reason}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"cannot read the config file {path}: {error}") from error
    try:
        return _parse(text)
    except ValueError as error:
        raise ConfigError(f"{path} is not valid TOML: {error}") from error


def _parse(text: str) -> dict[str, Any]:
    """Return the content of TOML text.

    Raises:
        ValueError: it is not TOML, is nested too deeply, or has integers of more than 64 bits.
    """
    try:
        tree = tomllib.loads(text)
        _check_integers(tree)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    return tree


def _check_integers(value: Any) -> None:
    if isinstance(value, int) and not -(2**63) <= value < 2**63:
        raise ValueError("it has an integer of more than 64 bits")
    if isinstance(value, dict | list):
        for inside in value.values() if isinstance(value, dict) else value:
            _check_integers(inside)


def merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Return both trees merged; where both have a value, that of `above`."""
    result = dict(below)
    for key, value in above.items():
        under = result.get(key)
        both = isinstance(under, Mapping) and isinstance(value, Mapping)
        result[key] = merged(typing.cast(Mapping[str, Any], under), value) if both else value
    return result


def apply_overrides(tree: Mapping[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """Return a copy of `tree` with each `section.key=value` set; values are read as TOML.

    A value that is not TOML is taken as a string, so `data.path=photos/cats` needs no quotes.
    """
    result = json.loads(json.dumps(dict(tree), default=str))
    problems = []
    for override in overrides:
        key, equals, text = override.partition("=")
        if not equals or not key.strip():
            problems.append(f"--set {shown(override)} is not of the form section.key=value")
            continue
        try:
            value = _parse(f"value = {text.strip()}")["value"]
        except tomllib.TOMLDecodeError:
            value = text.strip()
        except ValueError as error:
            problems.append(f"--set {shown(override)}: {error}")
            continue
        *sections, name = key.strip().split(".")
        place = result
        for section in sections:
            if not isinstance(place.setdefault(section, {}), dict):
                problems.append(f"--set {shown(override)}: {section} is a setting, not a section")
                break
            place = place[section]
        else:
            place[name] = value
    if problems:
        raise ConfigError(problems)
    return typing.cast(dict[str, Any], result)


def plain(value: Any) -> Any:
    """Return a dataclass tree as nested dicts and lists for TOML and JSON."""
    if dataclasses.is_dataclass(value):
        return {f.name: plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    return list(value) if isinstance(value, tuple) else value


def build(cls: type[Any], tree: Any, prefix: str, problems: list[str]) -> Any:
    """Return an instance of `cls` from `tree`; append one sentence to `problems` for each fault.

    A faulty value is replaced by its default, so that checks across settings can still run.
    """
    if not isinstance(tree, Mapping):
        problems.append(f"{prefix.rstrip('.') or 'the config'} must be a table, got {shown(tree)}")
        return cls()
    hints = typing.get_type_hints(cls)
    known = {f.name: f for f in dataclasses.fields(cls)}
    for name in tree:
        if name not in known:
            meant = did_you_mean(name, known, otherwise="allowed here")
            problems.append(f"unknown setting {prefix}{name}; {meant}")
    values: dict[str, Any] = {}
    for name in [name for name in known if name in tree]:
        key, hint = f"{prefix}{name}", hints[name]
        if dataclasses.is_dataclass(hint):
            values[name] = build(typing.cast(type[Any], hint), tree[name], f"{key}.", problems)
            continue
        before = len(problems)
        value = _convert(key, tree[name], hint, known[name].metadata, problems)
        if len(problems) == before:
            values[name] = value
    return cls(**values)


def _convert(
    key: str, value: Any, hint: Any, metadata: Mapping[str, Any], problems: list[str]
) -> Any:
    """Return `value` as the type of `hint`, appending a sentence to `problems` if it cannot be."""
    facts: Setting = metadata["setting"]
    if isinstance(hint, types.GenericAlias):  # tuple[float, ...] is the only one in the tree
        if not isinstance(value, list | tuple):
            problems.append(f"{key} must be a list of numbers, got {shown(value)}")
            return value
        return tuple(_convert(f"{key}[{i}]", v, float, metadata, problems)
                     for i, v in enumerate(value))  # fmt: skip
    if isinstance(hint, types.UnionType):  # a number of a kind, or a bool, or one of the choices
        hint = next(kind for kind in (bool, int, float) if kind in typing.get_args(hint))
        allowed = {bool: bool, int: int, float: int | float}[hint]
        if not isinstance(value, allowed) or isinstance(value, bool) is not (hint is bool):
            if value not in facts.choices:
                kinds = {bool: "true, false", int: "an integer", float: "a number"}
                words = " or ".join([kinds[hint], *facts.choices])
                problems.append(f"{key} must be {words}, got {shown(value)}")
            return value
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(max(-_HUGE, min(value, _HUGE)))
    if not isinstance(value, hint) or (hint is int and isinstance(value, bool)):
        names = {int: "an integer", float: "a number", bool: "true or false",
                 str: 'a string (in "quotes" if it looks like a number or true/false)'}  # fmt: skip
        problems.append(f"{key} must be {names[hint]}, got {shown(value)}")
        return value
    if isinstance(value, str) and (fault := _fault_of_text(value)):
        problems.append(f"{key} {fault}, got {shown(value)}")
    if facts.choices and isinstance(value, str) and value not in facts.choices:
        problems.append(f"{key} must be one of {', '.join(facts.choices)}; got {shown(value)}")
    if isinstance(value, int | float) and not isinstance(value, bool):
        problems.extend(_range_problems(key, value, facts))
    return value


def _fault_of_text(text: str) -> str | None:
    if "\0" in text:
        return "must not have a null character"
    try:
        text.encode()
    except UnicodeEncodeError:
        return "must be valid Unicode (a file name of other bytes has to be renamed)"
    return None


def shown(value: Any) -> str:
    """Return a value for a message: its `repr`, cut where it is long."""
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # an integer of thousands of digits, a list of lists of...
        text = f"a very large {type(value).__name__}"
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


def _range_problems(key: str, value: float, facts: Setting) -> Iterator[str]:
    unit = f" {facts.unit}" if facts.unit else ""
    if not abs(value) < _HUGE:
        yield f"{key} must be a finite number below 2**62, got {shown(value)}"
        return
    if facts.at_least is not None and value < facts.at_least:
        yield f"{key} must be at least {facts.at_least:g}{unit}, got {value}"
    if facts.above is not None and value <= facts.above:
        yield f"{key} must be above {facts.above:g}{unit}, got {value}"
    if facts.at_most is not None and value > facts.at_most:
        yield f"{key} must be at most {facts.at_most:g}{unit}, got {value}"
