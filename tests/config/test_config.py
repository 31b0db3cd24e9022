"""Settings: TOML in and out, every problem at once, and what counts as the same results."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import Any

import pytest

from gendataagent.config import RunConfig
from gendataagent.config.settings import SettingRow, apply_overrides, iterate_settings
from gendataagent.core.errors import ConfigError

ROWS = {row.key: row for row in iterate_settings(RunConfig())}
SPEED_ONLY = {
    "training.processes",
    "training.checkpoint_every_epochs",
    "tracking.to",
    "tracking.project",
    "tracking.images",
    "agent.baseline",
    "agent.release_models",
    "prompting.caption_cache",
    "prompting.endpoint_timeout_s",
    "prompting.endpoint_concurrency",
    "prompting.endpoint_retries",
    "adaptation.gradient_checkpointing",
    "adaptation.sample_every_epochs",
    "adaptation.checkpoint_every_steps",
    "adaptation.measure_images",
    "generation.chunk_size",
    "generation.executor",
    "generation.workers",
    "generation.gpus_per_worker",
    "generation.ray_address",
    "generation.wait_for_workers_s",
    "generation.image_cache",
    "device",
    "trust_remote_code",
}


def tree_of(key: str, value: Any) -> dict[str, Any]:
    section, _, name = key.rpartition(".")
    return {section: {name: value}} if section else {name: value}


def problems_of(tree: dict[str, Any]) -> tuple[str, ...]:
    with pytest.raises(ConfigError) as caught:
        RunConfig.from_dict(tree)
    return caught.value.problems


def another_value(row: SettingRow) -> Any:
    """Return an allowed value that is not the default."""
    value, facts = row.value, row.setting
    numbers = {
        "generation.feedback_scale": 0.125,
        "generation.batch_size": 3,
        "training.processes": 3,
        "agent.guard": True,
        "generation.guidance_scale": 2.0,
        "generation.strengths": [0.5, 0.9],
        "generation.soft_label_gamma": 0.5,
        "filter.drop_below": 0.5,
        "generation.num_inference_steps": 12,
        "generation.few_step_lora": "someone/lcm-lora",
    }  # or one word; a LoRA that is recognised
    if row.key in numbers:
        return numbers[row.key]
    if facts.at_most is not None and value == facts.at_most:
        return value - 1 if isinstance(value, int) else value / 2
    if facts.choices:
        return next(choice for choice in facts.choices if choice != value)
    if isinstance(value, bool):
        return not value
    if isinstance(value, tuple):
        return [*value[:-1], value[-1] - 0.01]
    if isinstance(value, str):
        return f"{value}-other"
    if isinstance(value, int):
        return value + 1
    return value / 2 if value else 0.5


def test_defaults_are_valid_and_survive_toml(tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    file.write_text(RunConfig().to_toml(), encoding="utf-8")
    assert RunConfig.from_toml(file) == RunConfig() == RunConfig.from_dict({})


@pytest.mark.parametrize("key", [key for key in ROWS if key != "trust_remote_code"])
def test_every_setting_survives_toml(key: str, tmp_path: Path) -> None:
    config = RunConfig.from_dict(tree_of(key, another_value(ROWS[key])))
    assert config != RunConfig()
    file = tmp_path / "config.toml"
    file.write_text(config.to_toml(), encoding="utf-8")
    assert RunConfig.from_toml(file) == config


@pytest.mark.parametrize("text", ['with "quotes" and \\', "zwei\nZeilen", "ünï", ""])
def test_awkward_strings_survive_toml(text: str, tmp_path: Path) -> None:
    config = RunConfig.from_dict({"generation": {"negative_prompt": text}})
    file = tmp_path / "config.toml"
    file.write_text(config.to_toml(), encoding="utf-8")
    assert RunConfig.from_toml(file).generation.negative_prompt == text


def test_the_hash_changes_with_every_setting_that_changes_results_and_with_no_other() -> None:
    default = RunConfig().results_hash()
    assert {key for key, row in ROWS.items() if not row.setting.affects_results} == SPEED_ONLY
    for key, row in ROWS.items():
        changed = RunConfig.from_dict(tree_of(key, another_value(row))).results_hash()
        assert (changed == default) == (key in SPEED_ONLY), key


def test_the_hash_of_the_defaults_is_the_same_for_an_equal_tree() -> None:
    assert RunConfig.from_dict(RunConfig().to_dict()).results_hash() == RunConfig().results_hash()


def test_every_problem_is_reported_at_once() -> None:
    found = problems_of(
        {
            "seeds": 3,
            "device": 4,
            "data": {"validation_share": 0.7, "test_share": 0.0},
            "training": {"epochs": "many", "learning_rate": float("nan"), "nesterov": 1},
            "agent": {"pool": "both"},
            "generation": {"strength": 0.01},
            "filter": "vog",
        }
    )
    assert found == (
        "unknown setting seeds; did you mean seed?",
        'device must be a string (in "quotes" if it looks like a number or true/false), got 4',
        "data.validation_share must be at most 0.5, got 0.7",
        "data.test_share must be above 0, got 0.0",
        "training.epochs must be an integer, got 'many'",
        "training.learning_rate must be a finite number below 2**62, got nan",
        "training.nesterov must be true or false, got 1",
        "agent.pool must be one of replace, accumulate; got 'both'",
        "filter must be a table, got 'vog'",
        "generation.num_inference_steps * generation.strength must be at least 1 executed step, "
        "got 30 * 0.01; raise one of the two",
    )


@pytest.mark.parametrize(
    ("tree", "says"),
    [
        ({"training": {"epoch": 3}}, "training.epoch; did you mean epochs?"),
        ({"agnt": {}}, "agnt; did you mean agent?"),
        ({"agent": {"xyzzy": 3}}, "allowed here: enabled, rounds"),
        ({"training": {"epochs": True}}, "training.epochs must be an integer, got True"),
        ({"training": {"epochs": 2.0}}, "training.epochs must be an integer, got 2.0"),
        ({"training": {"momentum": True}}, "training.momentum must be a number, got True"),
        ({"training": {"momentum": 1}}, "training.momentum must be at most 0.999, got 1.0"),
        ({"training": {"decay_milestones": 0.5}}, "must be a list of numbers, got 0.5"),
        ({"training": {"decay_milestones": [0.5, "x"]}}, "decay_milestones[1] must be a number"),
        ({"seed": -1}, "seed must be at least 0, got -1"),
        ({"seed": 10**400}, "seed must be a finite number below 2**62"),
        ({"training": {"learning_rate": 10**400}}, "must be a finite number below 2**62"),
        ({"training": {"learning_rate": float("inf")}}, "must be a finite number"),
        ({"data": {"validation_share": 0.5000001}}, "at most 0.5, got 0.5000001"),
    ],
)
def test_a_wrong_value_is_named(tree: dict[str, Any], says: str) -> None:
    (problem,) = problems_of(tree)
    assert says in problem


@pytest.mark.parametrize(
    ("tree", "says"),
    [
        ({"training": {"epochs": 5}, "agent": {"rounds": 1, "first_round_epoch": 5}}, "below"),
        ({"training": {"epochs": 5}, "agent": {"rounds": 6}}, "at most one round"),
        (  # rounds would fall on the same epoch and be skipped
            {"training": {"epochs": 10}, "agent": {"rounds": 5, "first_round_epoch": 8}},
            "must be at most agent.rounds_within x training.epochs - agent.first_round_epoch (2)",
        ),
        ({"generation": {"num_inference_steps": 10, "strength": 0.09}}, "10 * 0.09"),
        ({"training": {"decay_milestones": [0.5, 0.5]}}, "must be increasing"),
        ({"training": {"decay_milestones": [0.5, 0.25]}}, "must be increasing"),
        ({"filter": {"snapshot_at": [0.0, 0.5]}}, "must be increasing"),
        ({"filter": {"snapshot_at": [1.1]}}, "must be increasing"),
        ({"data": {"validation_share": 0.45, "test_share": 0.4}}, "leave at least 0.2"),
    ],
)
def test_contradictory_settings_are_refused(tree: dict[str, Any], says: str) -> None:
    (problem,) = problems_of(tree)
    assert says in problem


@pytest.mark.parametrize(
    "tree",
    [
        {"training": {"epochs": 3}, "agent": {"enabled": False}},
        {"training": {"epochs": 6}, "agent": {"rounds": 6}},
        {"training": {"epochs": 10}, "agent": {"rounds": 2, "first_round_epoch": 8}},
        {"generation": {"num_inference_steps": 10, "strength": 0.1}},
        {"training": {"decay_milestones": []}},
    ],
)
def test_settings_just_within_the_limits_are_allowed(tree: dict[str, Any]) -> None:
    RunConfig.from_dict(tree)


@pytest.mark.parametrize("key", [k for k, row in ROWS.items() if isinstance(row.value, int | float)
                                 and not isinstance(row.value, bool)])  # fmt: skip
def test_numbers_are_allowed_at_their_bounds_and_refused_beyond(key: str) -> None:
    facts, whole = ROWS[key].setting, isinstance(ROWS[key].value, int)
    step = 1 if whole else 1e-6

    def tree(value: float) -> dict[str, Any]:
        """Return a tree in which no other setting depends on this one."""
        at_ease: dict[str, Any] = {"agent": {"enabled": False}, "generation": {"strength": 1.0}}
        for section, settings in tree_of(key, int(value) if whole else value).items():
            top = not isinstance(settings, dict)
            at_ease[section] = settings if top else {**at_ease.get(section, {}), **settings}
        return at_ease

    for bound, sign in ((facts.at_least, -1), (facts.at_most, 1)):
        if bound is not None:
            assert not any(key in problem for problem in _problems_if_any(tree(bound)))
            assert any(key in problem for problem in problems_of(tree(bound + sign * step)))
    if facts.above is not None:
        assert any(key in problem for problem in problems_of(tree(facts.above)))


def _problems_if_any(tree: dict[str, Any]) -> tuple[str, ...]:
    try:
        RunConfig.from_dict(tree)
    except ConfigError as error:
        return error.problems
    return ()


def test_further_checks_are_added_to_the_built_in_ones() -> None:
    with pytest.raises(ConfigError) as caught:
        RunConfig.from_dict({"seed": -1}, lambda config: [f"seen with seed {config.seed}"])
    assert caught.value.problems == ("seed must be at least 0, got -1", "seen with seed 0")


@pytest.mark.parametrize(
    ("override", "key", "value"),
    [
        ("seed=5", "seed", 5),
        ("data.path=photos/cats", "data.path", "photos/cats"),
        ("data.path = photos of cats", "data.path", "photos of cats"),
        ('data.path="2024"', "data.path", "2024"),
        ("data.path=", "data.path", ""),
        ("data.path=a=b", "data.path", "a=b"),
        ("training.learning_rate=1e-3", "training.learning_rate", 1e-3),
        ("training.learning_rate=1", "training.learning_rate", 1.0),
        ("agent.enabled=false", "agent.enabled", False),
        ("filter.snapshot_at=[0.1, 0.2]", "filter.snapshot_at", (0.1, 0.2)),
    ],
)
def test_an_override_sets_one_setting(override: str, key: str, value: Any, tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    file.write_text('[data]\nimage_column = "img"\n', encoding="utf-8")
    config = RunConfig.from_toml(file, [override])
    assert {row.key: row.value for row in iterate_settings(config)}[key] == value
    assert config.data.image_column == "img"


def test_the_last_override_of_a_setting_wins_and_the_input_is_unchanged() -> None:
    tree = {"data": {"path": "a"}}
    assert apply_overrides(tree, ["data.path=b", "data.path=c"]) == {"data": {"path": "c"}}
    assert tree == {"data": {"path": "a"}}


def test_every_malformed_override_is_reported_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        apply_overrides({"seed": 1}, ["seed", "=3", "seed.deep=3", "data.path=x"])
    assert caught.value.problems == (
        "--set 'seed' is not of the form section.key=value",
        "--set '=3' is not of the form section.key=value",
        "--set 'seed.deep=3': seed is a setting, not a section",
    )


def test_an_override_of_a_string_by_a_number_says_how_to_write_it() -> None:
    (problem,) = problems_of(apply_overrides({}, ["data.path=2024"]))
    assert 'in "quotes"' in problem


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    broken, missing, binary = (tmp_path / name for name in ("broken.toml", "no.toml", "bin.toml"))
    broken.write_text("[data\npath", encoding="utf-8")
    binary.write_bytes(b"\xff\xfe\x00")
    for path, says in (
        (broken, "is not valid TOML"), (missing, "cannot read"), (binary, "cannot read")
    ):  # fmt: skip
        with pytest.raises(ConfigError, match=says) as caught:
            RunConfig.from_toml(path)
        assert path.name in str(caught.value)


def test_every_setting_has_one_line_of_help() -> None:
    for key, row in ROWS.items():
        assert row.setting.help, key
        assert "\n" not in row.setting.help, key
        assert row.default == row.value, key


def test_settings_cannot_be_changed_in_place() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        RunConfig().training.epochs = 3  # type: ignore[misc]


def test_adaptation_and_other_lora_weights_are_not_combined() -> None:
    (problem,) = problems_of({"adaptation": {"enabled": True}, "generation": {"lora": "a/b"}})
    assert "generation.lora names others" in problem


def test_an_endpoint_needs_its_address_and_model() -> None:
    found = problems_of({"prompting": {"rewriter": "endpoint"}})
    assert [problem.split()[0] for problem in found] == [
        "prompting.endpoint_url",
        "prompting.endpoint_model",
    ]


def test_a_byte_order_mark_is_no_part_of_the_settings(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_bytes(b"\xef\xbb\xbfseed = 3\n")
    assert RunConfig.from_toml(path).seed == 3


@pytest.mark.parametrize(
    "text",
    [
        "a = " + "[" * 100_000,
        "a = " + "{a = " * 5_000,
        "seed = " + "9" * 5_000,
        "seed = 0x" + "f" * 5_000,
        "[data]\npath = [0x" + "f" * 5_000 + "]",
        "\xff\xfe",
        "seed = ",
        "seed = 1\nseed = 2",
        "[" + ".".join("a" * 5_000) + "]",
    ],
    ids=lambda text: text[:12],
)
def test_a_file_that_is_not_toml_is_named(tmp_path: Path, text: str) -> None:
    path = tmp_path / "config.toml"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(ConfigError, match=r"config\.toml|unknown setting"):
        RunConfig.from_toml(path)


@pytest.mark.parametrize(
    "override",
    [
        "seed=" + "9" * 5000,
        "seed=0x" + "f" * 5000,
        "a=" + "[" * 100_000,
        "data.path=a\0b",
        "seed=\udcff",
    ],
    ids=lambda text: ascii(text[:12]),
)
def test_overrides_of_any_size_are_a_sentence(override: str) -> None:
    with pytest.raises(ConfigError) as refused:
        RunConfig.from_dict(apply_overrides({}, [override]))
    assert len(str(refused.value)) < 400


@pytest.mark.parametrize(
    "value", [10**5000, "x" * 10**6, "\udcff", "a\0b", [[]] * 1000], ids=lambda v: type(v).__name__
)
@pytest.mark.parametrize("key", ["seed", "training.learning_rate", "filter.snapshot_at"])
def test_values_of_any_kind_are_a_short_sentence(key: str, value: object) -> None:
    *section, name = key.split(".")
    with pytest.raises(ConfigError) as refused:
        RunConfig.from_dict({section[0]: {name: value}} if section else {name: value})
    assert all(len(problem) < 400 for problem in refused.value.problems)


@pytest.mark.parametrize("path", ["caf\udce9/photos", "a\0b"])
def test_paths_that_no_file_can_hold_are_refused(path: str) -> None:
    with pytest.raises(ConfigError, match=r"data\.path must"):
        RunConfig.from_dict({"data": {"path": path}})


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_settings_are_not_read_from_a_pipe(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "config.toml")
    with pytest.raises(ConfigError, match=r"config\.toml: not a regular file"):
        RunConfig.from_toml(tmp_path / "config.toml")
