"""Parts from other installed packages, by entry points: `gendataagent.filters` and its siblings.

A package declares in its pyproject.toml

    [project.entry-points."gendataagent.filters"]
    contrast = "my_package:contrast_scores"

and `filter.by=contrast` uses it. Nothing is imported before its name is used.
"""

from __future__ import annotations

import functools
import traceback
from collections.abc import Iterator, Mapping
from importlib.metadata import EntryPoint, entry_points
from typing import TypeVar

from gendataagent.core.errors import ConfigError
from gendataagent.core.text import reason_of

Part = TypeVar("Part")

_used: dict[str, str] = {}  # module -> its package and version, of the parts that were loaded

GROUPS = ("selectors", "criteria", "filters", "captioners", "rewriters", "generators")


class Parts(Mapping[str, Part]):
    """The parts of a kind by name: our own, then those of installed packages.

    Args:
        kind: one of `GROUPS`; entry points of "gendataagent.KIND" are added.
        own: name -> part; no other package can replace one.
    """

    def __init__(self, kind: str, own: Mapping[str, Part]) -> None:
        assert kind in GROUPS
        self._kind, self._own = kind, own

    def __getitem__(self, name: str) -> Part:
        """Return a part.

        Raises:
            KeyError: no part has this name.
            ConfigError: its package cannot be imported, or two packages claim the name.
        """
        if name in self._own:
            return self._own[name]
        found = [point for point in plugins(self._kind) if point.name == name]
        if not found:
            raise KeyError(name)
        if len(found) > 1:
            raise ConfigError(
                f"{' and '.join(map(described, found))} both offer {name!r} in gendataagent."
                f"{self._kind}; uninstall one of them"
            )
        try:
            part: Part = found[0].load()
        except Exception as error:
            raise ConfigError(
                f"{name!r} of {described(found[0])} cannot be loaded: {reason_of(error)}; update "
                "or uninstall that package, or use another name"
            ) from error
        if not callable(part):
            raise ConfigError(
                f"{name!r} of {described(found[0])} is {part!r}, which cannot be called; an entry "
                f"point of gendataagent.{self._kind} names a function or a class"
            )
        _used[found[0].module.partition(".")[0]] = described(found[0])
        return part

    def __iter__(self) -> Iterator[str]:
        yield from self._own
        names = dict.fromkeys(point.name for point in plugins(self._kind))
        yield from (name for name in names if name not in self._own)

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __contains__(self, name: object) -> bool:
        """Return whether there is such a part, without importing it."""
        return name in self._own or any(point.name == name for point in plugins(self._kind))


@functools.cache
def plugins(kind: str) -> tuple[EntryPoint, ...]:
    """Return the entry points of a kind of part, in order of name."""
    found = entry_points(group=f"gendataagent.{kind}")
    return tuple(sorted(found, key=lambda point: (point.name, described(point))))


def described(point: EntryPoint) -> str:
    """Return the package of an entry point with its version: "my-package 1.2"."""
    return f"{point.dist.name} {point.dist.version}" if point.dist else point.value


def package_at_fault(error: BaseException) -> str:
    """Return the package and version of the part in which an error arose; "" if in none."""
    own = __name__.partition(".")[0]
    at_fault = ""
    for frame, _ in traceback.walk_tb(error.__traceback__):
        module = str(frame.f_globals.get("__name__", "")).partition(".")[0]
        if module == own or module in _used:
            at_fault = _used.get(module, "")
    return at_fault


def installed_plugins() -> dict[str, str]:
    """Return "filters contrast" -> package and version, for every entry point of `GROUPS`."""
    return {f"{kind} {point.name}": described(point) for kind in GROUPS for point in plugins(kind)}
