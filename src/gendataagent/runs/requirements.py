"""Whether the installed packages have the versions that this one and they themselves need."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Iterator
from dataclasses import dataclass

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

PACKAGE = "gendataagent"


@dataclass(frozen=True, slots=True)
class Conflict:
    """An installed package of a version that another one does not work with.

    Args:
        name: distribution, as the requirement spells it.
        found: the installed version.
        needed: the versions that `needed_by` works with, such as ">=2.6".
        needed_by: the distribution that needs it.
    """

    name: str
    found: str
    needed: str
    needed_by: str

    @property
    def fix(self) -> str:
        """Return the pip command that installs a version that works."""
        return f"pip install -U '{self.name}{self.needed}'"


def requirements(distribution: str = PACKAGE, extra: str = "") -> list[Requirement]:
    """Return what a distribution needs on this machine, with `extra` only what that extra adds.

    Empty where the distribution is not installed, or says nothing.
    """
    try:
        lines = importlib.metadata.requires(distribution) or []
    except importlib.metadata.PackageNotFoundError:
        return []
    every = [Requirement(line) for line in lines]
    plain = [r for r in every if _applies(r, "")]
    return [r for r in every if r not in plain and _applies(r, extra)] if extra else plain


def _applies(requirement: Requirement, extra: str) -> bool:
    return requirement.marker is None or requirement.marker.evaluate({"extra": extra})


def pip_name(requirement: Requirement) -> str:
    """Return a requirement as pip's command line takes it, such as "torch>=2.6"."""
    return f"{requirement.name}{requirement.specifier}"


def conflict(requirement: Requirement, needed_by: str = PACKAGE) -> Conflict | None:
    """Return how the installed version breaks a requirement; None if it does not, or is missing.

    Local builds count as their release (2.6.0+cpu is 2.6.0), and so do preview builds after it.
    """
    try:
        found = importlib.metadata.version(requirement.name)
        version = Version(found)
    except (importlib.metadata.PackageNotFoundError, InvalidVersion):
        return None  # a version of somebody's own scheme cannot be compared
    if requirement.specifier.contains(version, prereleases=True):
        return None
    return Conflict(requirement.name, found, str(requirement.specifier), needed_by)


def conflicts_below() -> Iterator[Conflict]:
    """Yield what the needed packages, and those below them, need and do not have."""
    waiting, seen = [r.name for r in requirements()], {canonicalize_name(PACKAGE)}
    while waiting:
        distribution = waiting.pop(0)
        if canonicalize_name(distribution) in seen:
            continue
        seen.add(canonicalize_name(distribution))
        for requirement in requirements(distribution):
            waiting.append(requirement.name)
            broken = conflict(requirement, distribution)
            if broken is not None:
                yield broken
