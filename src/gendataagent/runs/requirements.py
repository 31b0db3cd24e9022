"""Versions of installed packages that this package, or one that it needs, does not work with."""

from __future__ import annotations

import importlib.metadata
import tomllib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from packaging.requirements import Requirement
from packaging.specifiers import Specifier, SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

import gendataagent

PACKAGE = "gendataagent"
# In a clone: what an installation recorded may be older than the code, after `git pull`.
_PROJECT_FILE = Path(gendataagent.__file__).parents[2] / "pyproject.toml"


@dataclass(frozen=True, slots=True)
class Conflict:
    """An installed version that other packages do not work with.

    Args:
        name: distribution, as the requirement spells it.
        found: the installed version.
        refused_by: (distribution, the versions it needs), such as ("datasets", ">=2.32.2").
        needed: the versions that every package that needs this one works with.
        is_too_old: it is below a lower bound; otherwise it is newer than allowed, or excluded.
    """

    name: str
    found: str
    refused_by: tuple[tuple[str, str], ...]
    needed: str
    is_too_old: bool

    @property
    def sentence(self) -> str:
        """Return the version and who needs another one."""
        return f"{self.found}, but " + " and ".join(
            f"{distribution} needs {versions}" for distribution, versions in self.refused_by
        )

    @property
    def fix(self) -> str:
        """Return the pip command that installs a version that works."""
        return f"pip install -U '{self.name}{self.needed}'"


def requirements(distribution: str = PACKAGE, extras: Iterable[str] = ()) -> list[Requirement]:
    """Return what a distribution needs on this machine; with `extras`, only what those add.

    Empty where the distribution is not installed, or needs nothing.
    """
    wanted = set(extras)
    if distribution == PACKAGE and (project := _project()):
        optional = project["optional-dependencies"]
        lines = [line for extra in wanted for line in optional[extra]]
        every = [Requirement(line) for line in (lines if wanted else project["dependencies"])]
        return [r for r in every if _applies(r, "")]
    try:
        every = [Requirement(line) for line in importlib.metadata.requires(distribution) or []]
    except importlib.metadata.PackageNotFoundError:
        return []
    plain = [r for r in every if _applies(r, "")]
    if not wanted:
        return plain
    return [r for r in every if r not in plain and any(_applies(r, extra) for extra in wanted)]


def _project() -> dict[str, dict[str, list[str]]] | None:
    if not _PROJECT_FILE.is_file():
        return None
    project = tomllib.loads(_PROJECT_FILE.read_text(encoding="utf-8")).get("project", {})
    return project if project.get("name") == PACKAGE else None


def _applies(requirement: Requirement, extra: str) -> bool:
    return requirement.marker is None or requirement.marker.evaluate({"extra": extra})


def pip_name(requirement: Requirement) -> str:
    """Return a requirement as pip's command line takes it, such as "torch>=2.6"."""
    return f"{requirement.name}{requirement.specifier}"


def conflicts(needed: Sequence[Requirement]) -> dict[str, Conflict]:
    """Return the installed versions that break a requirement: canonical name -> conflict.

    The requirements of the needed packages are checked too, and of those that they need.

    Args:
        needed: what this package needs itself. Missing packages are left out.
    """
    needs: dict[str, list[tuple[str, Requirement]]] = {}
    waiting = [(PACKAGE, requirement) for requirement in needed]
    seen = set()
    while waiting:
        needed_by, requirement = waiting.pop(0)
        name = canonicalize_name(requirement.name)
        needs.setdefault(name, []).append((needed_by, requirement))
        below = [()] if not requirement.extras else [(), requirement.extras]
        for extras in below:
            if (name, *sorted(extras)) not in seen:
                seen.add((name, *sorted(extras)))
                waiting += [(requirement.name, r) for r in requirements(requirement.name, extras)]
    found = {name: _conflict(of_one) for name, of_one in needs.items()}
    return {name: conflict for name, conflict in found.items() if conflict is not None}


def _conflict(needs: Sequence[tuple[str, Requirement]]) -> Conflict | None:
    """Return how the installed version breaks what others need of it; None if it does not.

    Local builds count as their release (2.6.0+cpu is 2.6.0); previews come before it.
    """
    name = needs[0][1].name
    try:
        found = importlib.metadata.version(name)
        version = Version(found)
    except (importlib.metadata.PackageNotFoundError, InvalidVersion):
        return None  # a version that follows no standard cannot be compared
    refused = [(needed_by, r) for needed_by, r in needs if not r.specifier.contains(version, True)]
    if not refused:
        return None
    broken = [one for _, r in refused for one in r.specifier if not one.contains(version, True)]
    return Conflict(
        name=name,
        found=found,
        refused_by=tuple(dict.fromkeys((by, str(r.specifier)) for by, r in refused)),
        needed=_joined(one for _, r in needs for one in r.specifier),
        is_too_old=any(
            one.operator in (">=", ">", "~=") and version <= Version(one.version) for one in broken
        ),
    )


def _joined(specifiers: Iterable[Specifier]) -> str:
    """Return one set of versions, with the highest of the ">=" alone."""
    every = list(specifiers)
    lower = [one for one in every if one.operator == ">="]
    highest = max(lower, key=lambda one: Version(one.version), default=None)
    kept = [one for one in every if one.operator != ">=" or one is highest]
    return str(SpecifierSet(",".join(map(str, kept))))
