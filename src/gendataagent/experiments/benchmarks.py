"""Benchmarks: base settings, arms and seeds, from which the runs of an experiment follow.

An arm is a strategy with settings on top. Every synthetic arm generates the same number of images
(`budget`). Each arm and seed is one task, a complete `run`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from gendataagent.agent.budget import match_budget
from gendataagent.agent.decisions import with_precision_decided
from gendataagent.config import AUTO, RunConfig
from gendataagent.config.settings import merged
from gendataagent.config.strategies import STRATEGIES, apply, find_strategy
from gendataagent.core.devices import resolve_device
from gendataagent.core.errors import ConfigError
from gendataagent.core.suggestions import did_you_mean

_MOST_SEEDS = 10_000  # of one count or range


@dataclass(frozen=True, slots=True, kw_only=True)
class Arm:
    """One of the compared ways to train.

    Args:
        strategy: name of a strategy, or path of a TOML file with one.
        settings: override the strategy's, such as one value of a sweep.
        budget: generated images as a multiple of the training set; None = the benchmark's.
    """

    name: str
    strategy: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    budget: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Benchmark:
    """What an experiment compares.

    Args:
        base: settings that all arms share: data, classifier, recipe, generator, rounds.
        baseline: name of the arm the others are compared with.
        budget: images every synthetic arm generates, as a multiple of the training set.
        paper: arm -> the paper's figures for it, as text, where it reports any.
        data: where the images are, if they are not the benchmark's own.
        shares_images: whether runs take images with the same requests from each other; if not,
            the seconds of a run are those of all its images.
    """

    name: str
    about: str
    base: Mapping[str, Any]
    arms: tuple[Arm, ...]
    baseline: str
    budget: float = 1.0
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    paper: Mapping[str, str] = field(default_factory=dict)
    data: str = ""
    shares_images: bool = True

    @property
    def title(self) -> str:
        """Its name, and the data where they are not its own."""
        return f"{self.name} on {self.data}" if self.data else self.name

    @property
    def folder_name(self) -> str:
        """Name of the default folder of its runs."""
        place = re.sub(r"[^\w.-]+", "-", self.data.rstrip("/\\").replace("\\", "/").split("/")[-1])
        return f"experiment-{self.name}{'-' if place else ''}{place}"

    def with_settings(self, settings: Mapping[str, Any]) -> Benchmark:
        """Return the benchmark with settings over its base, named after other data."""
        base = merged(self.base, settings)
        place = str(base["data"]["path"])
        if place == self.base["data"]["path"]:
            return replace(self, base=base)
        limit = base["data"].get("train_per_class", 0)
        few = f", at most {limit} training images a class (data.train_per_class)" if limit else ""
        about = f"arms and settings of {self.name}, on {place}{few}"
        return replace(self, base=base, about=about, data=place)

    def with_arms(self, names: Sequence[str]) -> Benchmark:
        """Return the benchmark with the named arms: its own, strategies, or TOML files of one.

        Raises:
            ConfigError: an unknown name.
        """
        known = {arm.name: arm for arm in self.arms}
        arms = []
        for name in names:
            if name not in known:
                if not name.endswith(".toml") and name not in STRATEGIES:
                    hint = did_you_mean(name, [*known, *STRATEGIES])
                    raise ConfigError(f"unknown arm or strategy {name!r}; {hint}")
                strategy = find_strategy(name)
                known[name] = Arm(name=strategy.name, strategy=name)
            arms.append(known[name])
        return replace(self, arms=tuple(arms))


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """One run of an experiment."""

    arm: str
    seed: int
    config: RunConfig
    shares_images: bool = True

    @property
    def name(self) -> str:
        """Name of its folder; the hash makes other settings another folder."""
        return f"{self.arm}-seed{self.seed}-{self.config.results_hash()[:8]}"


def tasks_of(
    benchmark: Benchmark, *, images_per_class: Sequence[int], settings: Mapping[str, Any]
) -> list[Task]:
    """Return every run of a benchmark, seed by seed, so that early results compare all arms.

    Args:
        images_per_class: of the training set.
        settings: override the base (data path, threads...).

    Raises:
        ConfigError: an arm's settings are invalid.
    """
    base = RunConfig.from_dict(merged(benchmark.base, settings))
    if base.threads > 1:
        raise ConfigError(
            f"threads is 1 in every run of an experiment, got {base.threads}; choose how many run "
            "in parallel with --jobs"
        )
    base = with_precision_decided(replace(base, threads=1), resolve_device(base.device))
    if base.generation.executor == AUTO:  # several runs share a machine: none takes all its GPUs
        kind = "process" if base.generation.workers else "serial"
        base = replace(base, generation=replace(base.generation, executor=kind))
    if base.training.processes == AUTO:
        base = replace(base, training=replace(base.training, processes=1))
    total = sum(images_per_class)
    tasks = []
    for seed in benchmark.seeds:
        for arm in benchmark.arms:
            config = _config_of(arm, replace(base, seed=seed))
            if config.agent.guard == AUTO:  # arms are compared: none takes another's classifier
                config = replace(config, agent=replace(config.agent, guard=False))
            budget = round((benchmark.budget if arm.budget is None else arm.budget) * total)
            if config.agent.enabled:
                config = match_budget(config, images_per_class, budget).config
            tasks.append(
                Task(arm=arm.name, seed=seed, config=config, shares_images=benchmark.shares_images)
            )
    return tasks


def _config_of(arm: Arm, base: RunConfig) -> RunConfig:
    try:
        return RunConfig.from_dict(merged(apply(base, arm.strategy).to_dict(), arm.settings))
    except ConfigError as error:
        raise ConfigError([f"arm {arm.name}: {problem}" for problem in error.problems]) from error


def parse_seeds(text: str) -> tuple[int, ...]:
    """Return the seeds of "5" (0 to 4), "10-19" or "0,3,7", each once, in that order.

    Raises:
        ConfigError: the text is none of these.
    """
    counted_to = re.fullmatch(r"\s*([1-9]\d{0,17})\s*", text)
    seeds: list[int] = []
    for part in (f"0-{int(counted_to[1]) - 1}" if counted_to else text).split(","):
        match = re.fullmatch(r"\s*(\d{1,18})\s*(?:-\s*(\d{1,18})\s*)?", part)
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (1, 0)
        if not first <= last < first + _MOST_SEEDS:
            raise ConfigError(
                f"--seeds {text[:40]!r} is not valid; give a count (5 means 0 to 4), a range "
                f"(10-19) or a list (0,3,7), at most {_MOST_SEEDS:,} seeds"
            )
        seeds.extend(range(first, last + 1))
    return tuple(dict.fromkeys(seeds))
