"""[agent], [selection], [filter] and [adaptive]: the settings of the method itself."""

from __future__ import annotations

from dataclasses import dataclass

from gendataagent.config.settings import setting
from gendataagent.core.devices import AUTO


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentConfig:
    """When the agent runs a round, and how long its images are used."""

    enabled: bool = setting(True, "false = train on the real images only")
    rounds: int = setting(20, "on-the-fly iterations", source="20 [S]", at_least=1)
    first_round_epoch: int = setting(
        -1,
        "epochs trained before the first round; the others follow at equal distances. -1 = one "
        "such distance, epochs / (rounds + 1)",
        source="[?]; 20 rounds in 200 epochs = one every 10 [I]",
        at_least=-1,
    )
    rounds_within: float = setting(
        1.0,
        "share of the training over which all rounds are spread; 0.5 = the last round is before "
        "half of the epochs",
        source="1 [I]",
        above=0,
        at_most=1,
    )
    pool: str = setting(
        "replace",
        "replace: train on the images of the newest round; accumulate: of all rounds",
        source="[?]",
        choices=("replace", "accumulate"),
    )
    overlap: bool = setting(
        False,
        "make the images of a round in other processes while training goes on, and train on them "
        "from the epoch of the next round on; needs generation.workers on a device that training "
        "does not use; see docs/overlap.md",
    )
    baseline: bool = setting(
        False,
        "first run the same training without the agent, in RUN/baseline, for comparison",
        affects_results=False,
    )
    guard: bool | str = setting(
        AUTO,
        "do not end worse than without the agent: run the baseline first, stop using synthetic "
        "images once the run is worse on validation twice in a row, and keep the better "
        "classifier of the two; auto = with 100 validation images or more, and where the generator "
        "cannot draw some of the classes; see docs/adaptive.md",
        choices=(AUTO,),
    )
    release_models: str = setting(
        AUTO,
        "when to unload captioner, rewriter and generator after their stage: auto = if less than "
        "half of the device's memory is free",
        choices=(AUTO, "always", "never"),
        affects_results=False,
    )

    def last_epoch(self, epochs: int) -> int:
        """Return the number of epochs, of `epochs` in total, over which the rounds are spread."""
        # The tolerance is for shares like 0.55 of 100 epochs, which is 55.00000000000001.
        return int(self.rounds_within * epochs + 1e-9)

    @property
    def trains_baseline(self) -> bool:
        """Whether the same training without the agent runs first, in RUN/baseline."""
        return self.baseline or (self.is_guarded and self.enabled)

    @property
    def is_guarded(self) -> bool:
        """Whether the guard is on; auto is decided when a run starts."""
        return self.guard is True


@dataclass(frozen=True, slots=True, kw_only=True)
class SelectionConfig:
    """Which real images are selected as sources."""

    by: str = setting(
        "marginal",
        "marginal: lowest softmax probability of the true class; entropy: highest entropy; "
        "margin: smallest gap between the two likeliest classes; uniform: at random",
        source="marginal [R]",
    )
    share: float = setting(
        0.2, "share of the training set selected", source="1/5 of 1/5, 1/4, 1/2 swept [S, I]",
        above=0, at_most=1,
    )  # fmt: skip
    per_class: bool = setting(
        False,
        "select the share of each class instead of the complete set",
        source="complete set [I]",
    )
    budget_by: str = setting(
        "size",
        "how the images are divided among classes with per_class: size = by number of images; "
        "validation-error or training-error = by that times the class's error rate, so that "
        "weak classes get more (implies per_class)",
        choices=("size", "validation-error", "training-error"),
    )
    fresh: bool = setting(
        False,
        "select images that were no source yet before those that were, so that the rounds together "
        "use all of them",
    )
    skip_hardest: float = setting(
        0.0,
        "share of the hardest images to skip, where wrong labels and outliers gather; the number "
        "selected stays the same",
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
        "classifier's feature space; agreement: the classifier's probability of the intended "
        "class; text-agreement: the same by an image-text encoder, such as CLIP, among the names "
        "of all classes; random: at random; none: keep all",
        source="vog [S]; knn as the paper compares it [R]",
    )
    drop_share: float = setting(
        0.25,
        "share of each class's synthetic images dropped",
        source="25 / 50 / 75 % swept [S]",
        at_least=0,
        at_most=0.99,
    )
    drop_below: float | str = setting(
        "off",
        "instead of a share: drop every image with a score below this (above, with keep = low); "
        "off = drop_share",
        choices=("off",),
        switch=True,
    )
    text_model: str = setting(
        "laion/CLIP-ViT-B-32-laion2B-s34B-b79K",
        "for text-agreement: hub id or path of an image-text encoder of transformers (CLIP, "
        "SigLIP, ALIGN...)",
        source="CLIP RN50 in He et al. [C]",
        path=True,
        switch=True,
    )
    text_model_revision: str = setting(
        "", "hub revision of text_model; empty = the newest", switch=True
    )
    keep: str = setting(
        "high", "which end of the scores is kept", source="high [R]; see docs/method.md",
        choices=("high", "low"),
    )  # fmt: skip
    snapshot_at: tuple[float, ...] = setting(
        (0.05, 0.1, 0.15),
        "shares of the epochs after which a snapshot of the classifier is saved for VoG",
        source="epochs 10, 20, 30 of 200 [R]",
    )
    neighbours: int = setting(
        15, "number of nearest real images for knn", source="15 [R]", at_least=1
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class AdaptiveConfig:
    """Thresholds chosen by validation gain while training, instead of by hand.

    A list holds the values to try; an empty one leaves its setting unchanged.
    """

    enabled: bool = setting(
        False,
        "in each round, train a copy of the classifier for a few steps on the images of each "
        "option, and keep the images of the options that are best on validation; see "
        "docs/adaptive.md",
    )
    strengths: tuple[float, ...] = setting(
        (0.5, 0.75, 0.9),
        "values to try for generation.strength; a mix of all of them is tried too",
        source="swept [S]",
    )
    shares: tuple[float, ...] = setting(
        (0.2, 0.25, 0.5),
        "values to try for selection.share; selection.share * prompting.rewrites still sets the "
        "number of images of a round",
        source="swept [S]",
    )
    drop_shares: tuple[float, ...] = setting(
        (0.0, 0.25, 0.5, 0.75),
        "values to try for filter.drop_share",
        source="25 / 50 / 75 % swept [S]",
    )
    probe_steps: int = setting(20, "optimiser steps of each copy", at_least=1)
    probes: int = setting(
        1,
        "copies trained for each option, each on its own batches; their losses are averaged to "
        "reduce noise",
        at_least=1,
    )
