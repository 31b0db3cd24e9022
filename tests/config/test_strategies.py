"""Every compared system by name: what each changes, budgets that are met, and one's own."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gendataagent.config import RunConfig
from gendataagent.config.presets import preset_settings
from gendataagent.config.settings import iterate_settings
from gendataagent.config.strategies import PEERS, STRATEGIES, apply, find_strategy, read_strategy
from gendataagent.config.strategy import Strategy
from gendataagent.core.errors import ConfigError

NAMES = (
    "only-real", "randaugment", "cutmix", "mixup", "only-synthetic", "real-fake",
    "internet-explorer", "gendataagent", "marginal-only", "rewrite-only", "vog-only", "vog-low",
    "random-drop", "entropy", "margin", "gendataagent-plus", "real-fake-plus",
    "gendataagent-guided", "gendataagent-unguided", "gendataagent-feedback",
    "da-fusion", "real-guidance", "diff-mix", "saspa", "tada", "retrieval", "deliberate-practice",
    "feedback-guided", "da-fusion-tokens", "diff-mix-tokens", "datadream", "datadream-cls", "bob",
)  # fmt: skip


@pytest.fixture
def demo() -> RunConfig:
    return RunConfig.from_dict(preset_settings("demo"))


def changes(one: RunConfig, other: RunConfig) -> dict[str, Any]:
    """Return the settings of `other` that differ from those of `one`."""
    before = {row.key: row.value for row in iterate_settings(one)}
    return {r.key: r.value for r in iterate_settings(other) if r.value != before[r.key]}


def test_every_compared_system_exists_and_has_a_description() -> None:
    assert tuple(STRATEGIES) == NAMES
    for name, strategy in STRATEGIES.items():
        assert strategy.name == name
        assert 20 < len(strategy.about) < 100


@pytest.mark.parametrize("name", NAMES)
def test_a_strategy_applies_to_demo_and_defaults_and_keeps_shared_settings(
    name: str, demo: RunConfig
) -> None:
    shared = {"classifier", "data", "adaptation", "seed", "device", "generation"}
    for base in (demo, RunConfig()):
        changed = changes(base, apply(base, name))
        if "enabled" in STRATEGIES[name].settings.get("adaptation", {}):
            changed = {k: v for k, v in changed.items() if not k.startswith("adaptation.")}
        assert {key.split(".")[0] for key in changed} & shared <= {"generation"}
        generation = [key for key in changed if key.startswith("generation")]
        if name in PEERS:
            assert set(generation) <= {
                f"generation.{key}"
                for key in ("strength", "strengths", "prompt_class", "soft_label_gamma", "start",
                            "feedback", "generator", "condition", "lora_scale")
            }  # fmt: skip
        elif name in ("gendataagent-guided", "gendataagent-feedback"):
            assert generation == ["generation.feedback"]
        elif name != "only-synthetic":
            assert not generation
        assert "training.epochs" not in changed
        assert "training.steps_per_epoch" not in changed


def test_no_two_strategies_are_the_same(demo: RunConfig) -> None:
    assert len({apply(demo, name).results_hash() for name in NAMES}) == len(NAMES)


def test_the_papers_method_is_the_default_config() -> None:
    assert apply(RunConfig(), "gendataagent") == RunConfig()


@pytest.mark.parametrize(
    ("name", "changed"),
    [
        ("only-real", {"agent.enabled": False}),
        ("cutmix", {"agent.enabled": False, "training.mix": "cutmix",
                    "training.mix_probability": 0.5}),
        ("mixup", {"agent.enabled": False, "training.mix": "mixup"}),
        ("randaugment", {"agent.enabled": False, "training.randaugment_operations": 2,
                         "training.colour_jitter": 0.0}),
        ("real-fake", {"agent.rounds": 1, "agent.first_round_epoch": 0, "selection.by": "uniform",
                       "selection.share": 1.0, "prompting.rewriter": "none",
                       "prompting.rewrites": 1, "filter.by": "none"}),
        ("only-synthetic", {"agent.rounds": 1, "agent.first_round_epoch": 0,
                            "selection.by": "uniform", "selection.share": 1.0,
                            "prompting.rewriter": "none", "prompting.rewrites": 1,
                            "filter.by": "none", "training.real_images": False,
                            "generation.guidance_scale": 2.0}),
        ("internet-explorer", {"selection.by": "uniform", "filter.by": "knn",
                               "filter.drop_share": 0.5}),
        ("marginal-only", {"prompting.rewriter": "none", "filter.by": "none"}),
        ("rewrite-only", {"selection.by": "uniform", "filter.by": "none"}),
        ("vog-only", {"selection.by": "uniform", "prompting.rewriter": "none"}),
        ("vog-low", {"filter.keep": "low"}),
        ("random-drop", {"filter.by": "random"}),
        ("entropy", {"selection.by": "entropy"}),
        ("margin", {"selection.by": "margin"}),
    ],
)  # fmt: skip
def test_what_each_strategy_changes_of_the_papers(name: str, changed: dict[str, Any]) -> None:
    assert changes(RunConfig(), apply(RunConfig(), name)) == changed


def test_the_papers_method_switches_off_ideas_that_are_not_in_it() -> None:
    base = RunConfig.from_dict(
        {
            "agent": {"pool": "accumulate", "rounds_within": 0.5},
            "adaptive": {"enabled": True},
            "training": {"batchnorm_from_real": True, "synthetic_weight": 0.5,
                         "synthetic_label_smoothing": 0.2},
            "selection": {"per_class": True, "budget_by": "training-error", "skip_hardest": 0.1},
            "filter": {"keep": "low"},
        }
    )  # fmt: skip
    assert apply(base, "gendataagent") == RunConfig()


def test_the_base_sets_when_the_papers_rounds_are() -> None:
    base = RunConfig.from_dict({"agent": {"first_round_epoch": 3, "rounds": 4}})
    assert apply(base, "gendataagent") == base


def test_a_second_strategy_overrides_the_first(demo: RunConfig) -> None:
    assert apply(apply(demo, "vog-low"), "gendataagent") == apply(demo, "gendataagent")


@pytest.mark.parametrize("name", PEERS)
def test_what_another_papers_mechanism_changes_is_undone_by_ours(
    name: str, demo: RunConfig
) -> None:
    for own in ("gendataagent", "real-fake", "gendataagent-plus", "gendataagent-guided"):
        after = apply(replace(apply(demo, name), prompting=demo.prompting), own)
        assert after.training.sibling_replacement == 0
        assert (after.generation.start, after.generation.prompt_class) == ("image", "own")
        assert after.generation.condition == "none"


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(ConfigError, match=r"did you mean real-fake\? There are only-real, rand"):
        find_strategy("realfake")
    with pytest.raises(ConfigError, match=r"'xyzzy'; there are only-real.*or a file NAME\.toml"):
        apply(RunConfig(), "xyzzy")


def test_a_rewriting_strategy_needs_a_rewriter() -> None:
    base = RunConfig.from_dict({"prompting": {"rewriter": "none"}})
    with pytest.raises(ConfigError, match=r"gendataagent rewrites captions, but .* is none"):
        apply(base, "gendataagent")
    assert apply(base, "marginal-only").prompting.rewriter == "none"


def test_your_own_strategy_is_a_small_file(tmp_path: Path, demo: RunConfig) -> None:
    file = tmp_path / "weak-classes.toml"
    file.write_text(
        'about = "more for weak classes"\nlike = "gendataagent"\n'
        '[selection]\nbudget_by = "validation-error"\n',
        encoding="utf-8",
    )
    strategy = find_strategy(str(file))
    assert (strategy.name, strategy.about) == ("weak-classes", "more for weak classes")
    paper, own = apply(demo, "gendataagent"), apply(demo, strategy)
    assert changes(paper, own) == {"selection.budget_by": "validation-error"}


def test_a_file_may_be_complete_and_may_switch_rewriting_off(tmp_path: Path) -> None:
    alone, without = tmp_path / "alone.toml", tmp_path / "without.toml"
    alone.write_text("[agent]\nrounds = 3\n", encoding="utf-8")
    without.write_text('like = "vog-low"\n[prompting]\nrewriter = "none"\n', encoding="utf-8")
    assert changes(RunConfig(), apply(RunConfig(), str(alone))) == {"agent.rounds": 3}
    assert apply(RunConfig(), str(without)).prompting.rewriter == "none"


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("a.toml", 'like = "other.toml"', "like must name one of"),
        ("a.toml", 'like = "gendatagent"', "did you mean gendataagent"),
        ("a.toml", "about = 3", "must be strings, got 3"),
        ("real-fake.toml", "", "real-fake is a built-in strategy"),
        ("a.toml", "[agent", "not valid TOML"),
    ],
)
def test_a_wrong_file_is_refused(name: str, text: str, says: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=says):
        read_strategy(tmp_path / name)


def test_settings_of_your_own_strategy_are_checked(demo: RunConfig) -> None:
    mine = Strategy(name="mine", about="", settings={"agent": {"roundz": 2}})
    with pytest.raises(ConfigError, match="did you mean rounds"):
        apply(demo, mine)


def test_your_own_strategy_may_be_a_function(demo: RunConfig) -> None:
    def longer(config: RunConfig) -> RunConfig:
        return replace(config, training=replace(config.training, epochs=99))

    def never(config: RunConfig) -> RunConfig:
        return replace(config, training=replace(config.training, epochs=0))

    assert apply(demo, longer).training.epochs == 99
    with pytest.raises(ConfigError, match=r"training\.epochs must be at least 1"):
        apply(demo, never)


def test_neither_strategies_nor_budgets_load_anything_heavy() -> None:
    code = (
        "import sys, gendataagent.config.strategies, gendataagent.agent.budget; print(*sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"torch", "diffusers", "transformers"} & set(done.stdout.split())
