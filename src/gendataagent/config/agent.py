"""[agent], [selection], [filter] and [adaptive]: the settings of the method itself."""

from __future__ import annotations

from dataclasses import dataclass

from gendataagent.config.settings import setting
from gendataagent.core.devices import AUTO


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentConfig:
    """When the agent acts and what becomes of its images."""

    enabled: bool = setting(True, "false = train on the real images only")
    rounds: int = setting(20, "on-the-fly iterations", source="20 [S]", at_least=1)
    first_round_epoch: int = setting(
        -1,
        "epochs trained before the first round; the others follow at equal distances. -1 = one "
        "such distance (epochs / (rounds + 1))",
        source="[?]; 20 rounds in 200 epochs = one every 10 [I]",
        at_least=-1,
    )
    rounds_within: float = setting(
        1.0,
        "share of the training over which the rounds are spread, the first included; 0.5 = all "
        "images are there before half of it is over",
        source="1 [I]",
        above=0,
        at_most=1,
    )
    pool: str = setting(
        "replace",
        "replace: train on the newest round's images; accumulate: on those of all rounds",
        source="[?]",
        choices=("replace", "accumulate"),
    )
    baseline: bool = setting(
        False,
        "first train the same without the agent, into RUN/baseline, to compare with",
        affects_results=False,
    )
    guard: bool = setting(
        False,
        "the run must not end worse than without the agent: first train the same without it "
        "(as baseline does), stop using synthetic images where they do worse on validation twice "
        "in a row, and end with the better classifier of the two; see docs/adaptive.md",
    )
    release_models: str = setting(
        AUTO,
        "whether captioner, rewriter and generator leave the memory after their stage: auto = when "
        "less than half of the device's memory is left",
        choices=(AUTO, "always", "never"),
        affects_results=False,
    )

    def last_epoch(self, epochs: int) -> int:
        """Return the epochs trained when the last round's stretch ends, of `epochs` in all."""
        # The tolerance is for shares like 0.55 of 100 epochs, which is 55.00000000000001.
        return int(self.rounds_within * epochs + 1e-9)

    @property
    def trains_baseline(self) -> bool:
        """Whether the same training without the agent is done first, into RUN/baseline."""
        return self.baseline or (self.guard and self.enabled)


@dataclass(frozen=True, slots=True, kw_only=True)
class SelectionConfig:
    """Which real images new ones are made from."""

    by: str = setting(
        "marginal",
        "marginal: lowest softmax probability of the true class; entropy: highest; margin: "
        "narrowest between the two likeliest classes; uniform: drawn by seed",
        source="marginal [R]",
    )
    share: float = setting(
        0.2, "share of the training set selected", source="1/5 of 1/5, 1/4, 1/2 swept [S, I]",
        above=0, at_most=1,
    )  # fmt: skip
    per_class: bool = setting(
        False, "take the share of each class instead of the whole set", source="whole set [I]"
    )
    budget_by: str = setting(
        "size",
        "what a class's part follows when it is taken per class: size = its number of images; "
        "validation-error or training-error = that times how often the class is missed, so that "
        "weak classes get more (implies per_class)",
        choices=("size", "validation-error", "training-error"),
    )
    skip_hardest: float = setting(
        0.0,
        "share of the images passed over at the hard end, where wrong labels and outliers gather; "
        "as many are selected all the same",
        source="0 [I]",
        at_least=0,
        at_most=0.9,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class FilterConfig:
    """Which synthetic images go into training."""

    by: str = setting(
        "vog",
        "vog: variance of gradients; knn: mean cosine similarity to the nearest real images in the "
        "classifier's feature space; agreement: how likely the classifier finds the class it was "
        "made for; random: drawn by seed; none: keep all",
        source="vog [S]; knn as the paper compares it [R]",
    )
    drop_share: float = setting(
        0.25,
        "share of each class's synthetic images dropped",
        source="25 / 50 / 75 % swept [S]",
        at_least=0,
        at_most=0.99,
    )
    keep: str = setting(
        "high", "which end of the scores is kept", source="high [R]; see docs/method.md",
        choices=("high", "low"),
    )  # fmt: skip
    snapshot_at: tuple[float, ...] = setting(
        (0.05, 0.1, 0.15),
        "shares of the epochs after which a snapshot of the classifier is kept for VoG",
        source="epochs 10, 20, 30 of 200 [R]",
    )
    neighbours: int = setting(
        15, "nearest real images that knn looks at", source="15 [R]", at_least=1
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class AdaptiveConfig:
    """What is chosen by validation gain while training, instead of by hand.

    A list holds the values that are tried; an empty one leaves its setting as it is.
    """

    enabled: bool = setting(
        False,
        "in each round, train a copy of the classifier for a few steps with the images of each "
        "option, and keep those of the options that do best on validation; see docs/adaptive.md",
    )
    strengths: tuple[float, ...] = setting(
        (0.5, 0.75, 0.9),
        "tried for generation.strength; all of them mixed is tried too",
        source="swept [S]",
    )
    shares: tuple[float, ...] = setting(
        (0.2, 0.25, 0.5),
        "tried for selection.share; selection.share * prompting.rewrites still says how many "
        "images a round makes",
        source="swept [S]",
    )
    drop_shares: tuple[float, ...] = setting(
        (0.0, 0.25, 0.5, 0.75),
        "tried for filter.drop_share",
        source="25 / 50 / 75 % swept [S]",
    )
    probe_steps: int = setting(20, "optimiser steps of the copy for each option", at_least=1)
    probes: int = setting(
        1,
        "copies trained for each option, each with batches of its own; their losses are averaged, "
        "so that less of a gain is luck",
        at_least=1,
    )
