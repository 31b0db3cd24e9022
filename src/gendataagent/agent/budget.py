"""How many images a run will make, and how to make runs equal in that.

The count comes from the functions that the run itself uses, so it is exact. Images that are dropped
later count too, since making them is the cost.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from gendataagent.agent.schedule import Schedule
from gendataagent.agent.selection import count_selected
from gendataagent.config import RunConfig
from gendataagent.core.errors import ConfigError

# The selection share may change by up to this factor to meet a budget: the smallest (root of 2)
# that leaves no gap between one rewrite and two.
SHARE_CHANGE = 1.415


def generated_images(config: RunConfig, images_per_class: Sequence[int]) -> int:
    """Return how many images a run will make, including those dropped later.

    With agent.guard this is the maximum, since the guard may stop synthetic images.

    Args:
        images_per_class: of the real training set; classes in any order.
    """
    rounds = len(Schedule.from_config(config).round_epochs)
    return rounds * images_of_a_round(config, images_per_class)


def images_of_a_round(config: RunConfig, images_per_class: Sequence[int]) -> int:
    """Return how many images each round makes, with or without [adaptive]."""
    return count_selected(images_per_class, config.selection) * config.prompting.rewrites


@dataclass(frozen=True, slots=True, kw_only=True)
class Matched:
    """A config that meets a budget as closely as possible.

    Args:
        generated: images it will make.
        difference: `generated` minus the budget; 0 where it is met exactly.
    """

    config: RunConfig
    generated: int
    difference: int


def match_budget(config: RunConfig, images_per_class: Sequence[int], generated: int) -> Matched:
    """Return `config` with rewrites, and if need be the share selected, set to meet a budget.

    The config nearest to the budget wins; of equals, the one that changes the share least, then the
    rewrites. A strategy that uses every real image keeps doing so, unless the budget is below one
    image per selected one. Rounds are never changed, since their epochs are part of a strategy.
    Without the agent no image is made and the config is returned unchanged.

    Raises:
        ConfigError: the budget is below one image a round.
    """
    rounds = len(Schedule.from_config(config).round_epochs)
    if not rounds:
        return Matched(config=config, generated=0, difference=0)
    if generated < rounds:
        raise ConfigError(
            f"a budget of {generated} generated images is less than one in each of the {rounds} "
            "rounds; raise it, or lower agent.rounds"
        )
    wanted, total = config.selection.share, sum(images_per_class)

    def distance(candidate: RunConfig) -> tuple[float, float, int]:
        share = candidate.selection.share
        return (
            abs(generated_images(candidate, images_per_class) - generated),
            max(share / wanted, wanted / share),
            abs(candidate.prompting.rewrites - config.prompting.rewrites),
        )

    best = min(_candidates(config, total, generated / rounds), key=distance)
    made = generated_images(best, images_per_class)
    return Matched(config=best, generated=made, difference=made - generated)


def _candidates(config: RunConfig, total: int, a_round: float) -> Iterator[RunConfig]:
    """Yield configs near a number of images per round, first with the share unchanged."""
    wanted = config.selection.share
    if a_round < wanted * total:
        selection = replace(config.selection, share=a_round / total)
        yield replace(config, selection=selection, prompting=replace(config.prompting, rewrites=1))
    most = max(1, round(SHARE_CHANGE * a_round / max(1, round(wanted * total))) + 1)
    for rewrites in range(1, most + 1):
        prompting = replace(config.prompting, rewrites=rewrites)
        yield replace(config, prompting=prompting)
        share = a_round / rewrites / total
        if wanted < 1 and wanted / SHARE_CHANGE <= share <= min(1.0, wanted * SHARE_CHANGE):
            selection = replace(config.selection, share=share)
            yield replace(config, prompting=prompting, selection=selection)
