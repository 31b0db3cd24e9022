"""Training strategies by name: the compared systems as settings of one and the same `run`.

    config = strategies.apply(base, "real-fake")

A strategy is a tree of settings applied on top of a base config. The base sets data, classifier,
training, generator, strength, guidance and number of rounds, so that all strategies share these.
Your own is a TOML file (see `read_strategy`) or a function from config to config.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from gendataagent.config import RunConfig
from gendataagent.config.peers import peers
from gendataagent.config.settings import merged, read_settings
from gendataagent.config.strategy import (
    NO_AGENT,
    OWN_IMAGE,
    PAPER,
    PLAIN_AGENT,
    PLAIN_SELECTION,
    PLAIN_TRAINING,
    REAL_FAKE,
    Strategy,
    over,
)
from gendataagent.core.errors import ConfigError
from gendataagent.core.suggestions import closest

OwnStrategy = Callable[[RunConfig], RunConfig]
"""A strategy as a function from the base config to the config to run."""

_PLUS = {
    "agent": {**PLAIN_AGENT, "first_round_epoch": 0, "rounds": 2, "rounds_within": 0.5,
              "pool": "accumulate"},
    "training": {**PLAIN_TRAINING, "batchnorm_from_real": True},
    "selection": {"by": "marginal", "share": 1.0, **PLAIN_SELECTION, "per_class": True},
    "prompting": {"rewrites": 1},
    "filter": {"by": "none"},
    "adaptive": {"enabled": False},
    "generation": {"feedback": "none", **OWN_IMAGE},
}  # fmt: skip
_FEEDBACK = {"generation": {"feedback": "entropy", "feedback_scale": "auto", **OWN_IMAGE}}
# Four early rounds that together use every source twice; the first is before any training.
_GUIDED = {
    "agent": {**PLAIN_AGENT, "first_round_epoch": 0, "rounds": 4, "rounds_within": 0.5,
              "pool": "accumulate"},
    "training": {**PLAIN_TRAINING, "batchnorm_from_real": True},
    "selection": {"by": "uniform", "share": 0.5, **PLAIN_SELECTION, "per_class": True,
                  "fresh": True},
    "prompting": {"rewrites": 1},
    "filter": {"by": "none"},
    "adaptive": {"enabled": False},
    **_FEEDBACK,
}  # fmt: skip
_NO_FEEDBACK = {"generation": {"feedback": "none"}}
_UNIFORM = {"selection": {"by": "uniform"}}
_SAME_CAPTION = {"prompting": {"rewriter": "none"}}
_NO_FILTER = {"filter": {"by": "none"}}


def _all() -> Iterator[Strategy]:
    yield Strategy(
        name="only-real", about="the real images alone, no agent", settings=NO_AGENT, source="[S]"
    )
    yield Strategy(
        name="randaugment",
        about="the real images alone, RandAugment (2 operations, magnitude 9) instead of jitter",
        source="Cubuk et al. 2020, as in torchvision [C]",
        settings=over(
            NO_AGENT,
            {"training": {
                "randaugment_operations": 2, "randaugment_magnitude": 9.0, "colour_jitter": 0.0,
            }},
        ),
    )  # fmt: skip
    yield Strategy(
        name="cutmix",
        about="the real images alone, with CutMix in half of the steps",
        source="Yun et al. 2019, its code's CIFAR recipe [C]",
        settings=over(
            NO_AGENT, {"training": {"mix": "cutmix", "mix_alpha": 1.0, "mix_probability": 0.5}}
        ),
    )
    yield Strategy(
        name="mixup",
        about="the real images alone, with MixUp in every step",
        source="Zhang et al. 2018, its code's CIFAR recipe [C]",
        settings=over(
            NO_AGENT, {"training": {"mix": "mixup", "mix_alpha": 1.0, "mix_probability": 1.0}}
        ),
    )
    yield Strategy(
        name="only-synthetic",
        about="as real-fake at guidance 2, but trained on the synthetic images alone",
        source="guidance 2.0 [S]; as many as real ones, the rest [I]",
        settings=over(
            REAL_FAKE, {"training": {"real_images": False}, "generation": {"guidance_scale": 2.0}}
        ),
    )
    yield Strategy(
        name="real-fake",
        about="one image from every real one, made before training; no rewriting, no filter",
        source="Yuan et al. 2024 [C]",
        settings=REAL_FAKE,
    )
    yield Strategy(
        name="internet-explorer",
        about="the loop with random sources; keeps the half most like the 15 nearest real images",
        source="Li et al. 2023, as the paper compares with it [R]; half of each class [I]",
        settings=over(
            PAPER, _UNIFORM, {"filter": {"by": "knn", "drop_share": 0.5, "neighbours": 15}}
        ),
        rewrites=True,
    )
    yield from _the_loop_and_its_parts()


def _the_loop_and_its_parts() -> Iterator[Strategy]:
    yield Strategy(
        name="gendataagent",
        about="the paper's method: hardest fifth, 5 rewrites each, VoG keeps the high end",
        source="[S, R, I]",
        settings=PAPER,
        rewrites=True,
    )
    yield Strategy(
        name="marginal-only",
        about="ablation: hardest fifth, captions unchanged, no filter",
        source="[R]",
        settings=over(PAPER, _SAME_CAPTION, _NO_FILTER),
    )
    yield Strategy(
        name="rewrite-only",
        about="ablation: random fifth, captions rewritten, no filter",
        source="[R]",
        settings=over(PAPER, _UNIFORM, _NO_FILTER),
        rewrites=True,
    )
    yield Strategy(
        name="vog-only",
        about="ablation: random fifth, captions unchanged, VoG",
        source="[R]",
        settings=over(PAPER, _UNIFORM, _SAME_CAPTION),
    )
    for name, about, change in (
        ("vog-low", "gendataagent, but VoG keeps the low end", {"filter": {"keep": "low"}}),
        ("random-drop", "gendataagent, but the filter drops the same share at random",
         {"filter": {"by": "random"}}),
        ("entropy", "gendataagent, but the images of highest entropy are selected",
         {"selection": {"by": "entropy"}}),
        ("margin", "gendataagent, but the images of smallest margin are selected",
         {"selection": {"by": "margin"}}),
    ):  # fmt: skip
        yield Strategy(name=name, about=about, settings=over(PAPER, change), rewrites=True)
    yield from _ours()


def _ours() -> Iterator[Strategy]:
    """Yield our variants (docs/evidence.md), each with its control."""
    yield Strategy(
        name="gendataagent-plus",
        about="ours: all sources in two early rounds, all kept, batch norm of real images",
        settings=_PLUS,
        rewrites=True,
    )
    yield Strategy(
        name="real-fake-plus",
        about="control: real-fake with batch norm of real images",
        settings=over(REAL_FAKE, {"training": {"batchnorm_from_real": True}}),
    )
    yield Strategy(
        name="gendataagent-guided",
        about="ours: four early rounds, other sources each, steered by the classifier's entropy",
        source="feedback: Hemmat et al. 2023, Askari-Hemmat et al. 2025; its scale is ours",
        settings=_GUIDED,
        rewrites=True,
    )
    yield Strategy(
        name="gendataagent-unguided",
        about="control: the same rounds, sources and seeds without feedback",
        settings=over(_GUIDED, _NO_FEEDBACK),
        rewrites=True,
    )
    yield Strategy(
        name="gendataagent-feedback",
        about="the paper's method with feedback",
        settings=over(PAPER, _FEEDBACK),
        rewrites=True,
    )


PEERS: Mapping[str, Strategy] = {strategy.name: strategy for strategy in peers()}
"""Mechanisms of other papers, see docs/peers.md."""

STRATEGIES: Mapping[str, Strategy] = {s.name: s for s in (*_all(), *PEERS.values())}


def find_strategy(name: str) -> Strategy:
    """Return a strategy by name, or the one in a file if `name` ends in .toml.

    Raises:
        ConfigError: there is no such strategy or file.
    """
    if name.endswith(".toml"):
        return read_strategy(name)
    if name not in STRATEGIES:
        close = closest(name, STRATEGIES)
        hint = f"did you mean {close[0]}? There are" if close else "there are"
        raise ConfigError(
            f"there is no strategy {name!r}; {hint} {', '.join(STRATEGIES)}, or a file NAME.toml"
        )
    return STRATEGIES[name]


def read_strategy(path: str | Path) -> Strategy:
    """Return the strategy in a TOML file, named after the file.

    The file has settings like a config file, and may start with `about = "one line"` and
    `like = "gendataagent"`, the strategy that it changes:

        like = "gendataagent"
        [selection]
        budget_by = "validation-error"

    Raises:
        ConfigError: the file cannot be read, or `like` does not name a built-in strategy.
    """
    tree = read_settings(path)
    about, like = tree.pop("about", ""), tree.pop("like", "")
    if not isinstance(about, str) or not isinstance(like, str):
        raise ConfigError(f"{path}: about and like must be strings, got {about!r} and {like!r}")
    if like.endswith(".toml"):
        raise ConfigError(f"{path}: like must name one of {', '.join(STRATEGIES)}; got {like!r}")
    below = find_strategy(like) if like else Strategy(name="", about="")
    name = Path(path).stem
    if name in STRATEGIES:
        raise ConfigError(f"{path}: {name} is a built-in strategy; rename the file")
    return Strategy(
        name=name,
        about=about or (f"{like}, changed by {Path(path).name}" if like else str(path)),
        settings=over(below.settings, tree),
        rewrites=below.rewrites and tree.get("prompting", {}).get("rewriter") != "none",
    )


def apply(config: RunConfig, strategy: str | Strategy | OwnStrategy) -> RunConfig:
    """Return `config` with a strategy applied on top.

    Raises:
        ConfigError: no such strategy; unknown or contradictory settings; or the strategy rewrites
            captions and the base has no rewriter.
    """
    if isinstance(strategy, str):
        strategy = find_strategy(strategy)
    if not isinstance(strategy, Strategy):
        return RunConfig.from_dict(strategy(config).to_dict())
    result = RunConfig.from_dict(merged(config.to_dict(), strategy.settings))
    check_rewriter(result, strategy)
    return result


def check_rewriter(config: RunConfig, strategy: Strategy) -> None:
    """Raise `ConfigError` if a strategy rewrites captions and no rewriter is named."""
    if strategy.rewrites and config.prompting.rewriter == "none":
        raise ConfigError(
            f"the strategy {strategy.name} rewrites captions, but prompting.rewriter is none; name "
            "a rewriter in the base settings, or auto"
        )
