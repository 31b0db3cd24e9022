"""Thresholds chosen on validation: what is planned, how options are compared, what stays."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gendataagent.agent.adaptive import (
    Probe,
    assign_strengths,
    best_option,
    images_per_source,
    max_probes,
    mean_gains,
    read_probes,
    select_with_min_share,
    widest_selection,
)
from gendataagent.agent.adaptive.decision import (
    HURTS_VALIDATION,
    OTHER_SHARE,
    OTHER_STRENGTH,
    Decision,
    decide,
)
from gendataagent.agent.adaptive.planning import FAVOURED
from gendataagent.agent.budget import generated_images, images_of_a_round
from gendataagent.agent.filtering import FilterScores
from gendataagent.agent.schedule import Schedule
from gendataagent.agent.selection import SelectionContext, count_selected, select
from gendataagent.config import AdaptiveConfig, RunConfig
from gendataagent.core.errors import ConfigError
from gendataagent.core.journal import append_row
from gendataagent.core.records import Candidate, Scored, candidate_id
from gendataagent.generation import stages

STRENGTHS, SHARES, DROPS = (0.5, 0.75, 0.9), (0.2, 0.5), (0.0, 0.5)


def config_of(**sections: Any) -> RunConfig:
    tree: dict[str, dict[str, Any]] = {
        "training": {"epochs": 20},
        "agent": {"rounds": 2},
        "adaptive": {
            "enabled": True, "strengths": STRENGTHS, "shares": SHARES, "drop_shares": DROPS,
        },
    }  # fmt: skip
    for name, values in sections.items():
        tree[name] = {**tree.get(name, {}), **values}
    return RunConfig.from_dict(tree)


def context_of(images_per_class: Sequence[int]) -> SelectionContext:
    labels = np.repeat(np.arange(len(images_per_class)), images_per_class)
    random = np.random.default_rng(0)
    return SelectionContext(
        source_ids=tuple(map(str, range(len(labels)))),
        labels_N=labels,
        probabilities_NC=random.dirichlet(np.ones(len(images_per_class)), len(labels)),
        seed=0,
    )


# What is planned


@pytest.mark.parametrize(
    "selection",
    [{}, {"per_class": True}, {"skip_hardest": 0.1}, {"by": "uniform"}, {"by": "entropy"}],
)
def test_every_source_knows_the_least_share_that_selects_it(selection: dict[str, Any]) -> None:
    config, context = config_of(selection=selection), context_of([30, 20, 10])
    chosen = select_with_min_share(context, config.selection, config.adaptive)
    for share in SHARES:
        alone = select(context, replace(config.selection, share=share))
        among = [scored for scored in chosen if (scored.min_share or 0) <= share]
        assert [s.source_id for s in among] == [s.source_id for s in alone]


def test_without_shares_to_try_the_setting_stands() -> None:
    config, context = config_of(adaptive={"shares": []}), context_of([30, 20])
    chosen = select_with_min_share(context, config.selection, config.adaptive)
    assert chosen == select(context, config.selection)
    assert widest_selection(config.selection, config.adaptive) == config.selection
    off = replace(config.adaptive, enabled=False, shares=SHARES)
    assert widest_selection(config.selection, off) == config.selection


@given(
    st.lists(st.integers(1, 30), min_size=2, max_size=5),
    st.floats(0.05, 1.0),
    st.booleans(),
    st.integers(1, 6),
    st.sampled_from([None, *SHARES]),
)
def test_the_budget_is_what_the_settings_say_whatever_is_tried(
    images_per_class: list[int], share: float, per_class: bool, rewrites: int,
    favoured: float | None,
) -> None:  # fmt: skip
    plain = config_of(adaptive={"enabled": False})
    config = replace(
        plain,
        selection=replace(plain.selection, share=share, per_class=per_class),
        prompting=replace(plain.prompting, rewrites=rewrites),
        adaptive=replace(plain.adaptive, enabled=True),
    )
    images = images_of_a_round(config, images_per_class)
    chosen = select_with_min_share(context_of(images_per_class), config.selection, config.adaptive)
    planned = list(
        stages.plan(
            chosen,
            round_number=0,
            rewrites=images_per_source(chosen, images, favoured),
            class_names=list("abcde"),
            settings=config.generation,
            run_seed=0,
        )
    )
    assert len(planned) == len({c.id for c in planned}) == images
    assert images == count_selected(images_per_class, config.selection) * rewrites
    rounds = len(Schedule.from_config(config).round_epochs)
    assert generated_images(config, images_per_class) == rounds * images


def sources(count: int, inside: int) -> list[Scored]:
    return [
        Scored(source_id=str(i), label=i % 3, score=i / count, min_share=0.2 if i < inside else 0.5)
        for i in range(count)
    ]


def test_images_are_divided_evenly_and_the_hardest_get_what_is_left_over() -> None:
    assert images_per_source(sources(4, 2), 10) == [3, 3, 2, 2]
    assert images_per_source(sources(4, 2), 3) == [1, 1, 1, 0]


def test_the_favoured_share_gets_two_thirds_and_never_less_than_its_part() -> None:
    assert images_per_source(sources(10, 4), 30, 0.2) == [5] * 4 + [2, 2, 2, 2, 1, 1]
    assert images_per_source(sources(10, 9), 30, 0.2) == [3] * 10
    assert images_per_source(sources(10, 4), 30, 0.5) == [3] * 10


def planned_of(chosen: Sequence[Scored], rewrites: int = 4) -> list[Candidate]:
    return list(
        stages.plan(
            chosen,
            round_number=0,
            rewrites=rewrites,
            class_names="abc",
            settings=config_of().generation,
            run_seed=0,
        )
    )


@pytest.mark.parametrize("favoured", [None, 0.75])
@pytest.mark.parametrize("seed", range(5))
def test_each_strength_has_its_part_of_each_class_and_of_hard_and_easy(
    favoured: float | None, seed: int
) -> None:
    made = assign_strengths(planned_of(sources(45, 20)), STRENGTHS, favoured, seed=seed)
    halves = [[c for c in made if int(c.source_id) < 22], [c for c in made if c.label == 1]]
    for group in (made, *halves):
        counts = Counter(c.strength for c in group)
        for strength in STRENGTHS:
            part = 1 / 3
            if favoured is not None:
                part = FAVOURED if strength == favoured else (1 - FAVOURED) / 2
            assert abs(counts[strength] - part * len(group)) <= 4
    assert len({tuple(c.strength for c in made if c.source_id == str(i)) for i in range(45)}) > 3


def test_a_round_draws_strengths_of_its_own_and_again_the_same() -> None:
    planned = planned_of(sources(12, 5))
    one = assign_strengths(planned, STRENGTHS, seed=1)
    assert one == assign_strengths(planned, STRENGTHS, seed=1)
    assert one != assign_strengths(planned, STRENGTHS, seed=2)
    assert [replace(c, strength=0) for c in one] == [replace(c, strength=0) for c in planned]
    assert assign_strengths(planned, (), seed=1) == planned


# How options are compared


def probe(option: float | None, gain: float | None, **changes: Any) -> Probe:
    facts: dict[str, Any] = {
        "knob": "strength", "option": option, "images": 10, "loss": None if gain is None else 1.0,
        "gain": gain, "standard_error": None if gain is None else 0.01, "seconds": 0.0,
    }  # fmt: skip
    return Probe(**facts | changes)


def test_gains_are_averaged_over_rounds_and_their_noise_with_them() -> None:
    probes = [probe(0.5, 0.1), probe(0.5, 0.3, standard_error=0.03), probe(0.9, None),
              probe(0.9, 0.2), probe(0.5, 9.0, knob="share")]  # fmt: skip
    means = mean_gains(probes, "strength")
    assert means[0.5].gain == pytest.approx(0.2)
    assert means[0.5].standard_error == pytest.approx(math.sqrt(0.01**2 + 0.03**2) / 2)
    assert means[0.9].gain == 0.2


def chosen_of(earlier: list[Probe], now: list[Probe]) -> float | None:
    best = best_option(earlier, now, "strength")
    assert best is not None
    assert best in now
    return best.option


def test_earlier_rounds_have_a_say() -> None:
    now = [probe(0.5, 0.10), probe(0.9, 0.15)]
    assert chosen_of([], now) == 0.9
    assert chosen_of([probe(0.5, 0.2), probe(0.9, 0.0)], now) == 0.5


def test_of_options_as_good_within_the_noise_that_with_most_images_stays() -> None:
    all_of_them = probe(None, 0.095, images=30)
    assert chosen_of([], [all_of_them, probe(0.5, 0.10), probe(0.9, 0.0)]) is None
    assert chosen_of([], [replace(all_of_them, gain=0.085), probe(0.5, 0.10)]) == 0.5


def test_an_option_that_diverged_is_out_of_this_round() -> None:
    assert chosen_of([probe(0.5, 0.5)], [probe(0.5, None), probe(0.9, -0.1)]) == 0.9
    assert best_option([], [probe(0.5, None)], "strength") is None


def test_probes_survive_the_disk_and_a_torn_last_line(tmp_path: Path) -> None:
    file = tmp_path / "probes.jsonl"
    assert read_probes(file) == []
    rows = [probe(None, 0.1), probe(0.5, None)]
    for row in rows:
        append_row(file, row.to_json())
    with open(file, "ab") as stream:
        stream.write(b'{"knob": "stre')
    assert read_probes(file) == rows


# What stays


class Truth:
    """Measures by a gain of each image that the test knows; writes down what was tried."""

    def __init__(self, gain_of: Mapping[str, float], noise: float = 0.001) -> None:
        self.gain_of, self.noise = gain_of, noise
        self.tried: list[tuple[str, float | None, int]] = []

    def __call__(self, knob: str, option: float | None, candidates: Sequence[Candidate]) -> Probe:
        self.tried.append((knob, option, len(candidates)))
        gains = [self.gain_of[c.id] for c in candidates]
        gain = sum(gains) / len(gains) if gains else 0.0
        return probe(
            option, gain if math.isfinite(gain) else None, knob=knob, images=len(candidates),
            standard_error=self.noise,
        )  # fmt: skip


def pool_of(count: int = 36) -> list[Candidate]:
    """Return images of sources whose first half is among the hardest fifth; strengths in turn."""
    return [
        Candidate(
            id=candidate_id(0, str(i), 0), round=0, source_id=str(i), label=i % 2, class_name="a",
            variant=0, seed=1, strength=STRENGTHS[i % 3], guidance_scale=2.0,
            num_inference_steps=4, negative_prompt="",
        )
        for i in range(count)
    ]  # fmt: skip


def choice_of(
    pool: Sequence[Candidate], truth: Truth, *, scores: FilterScores | None = None,
    earlier: Sequence[Probe] = (), **sections: Any,
) -> Decision:  # fmt: skip
    half = len(pool) // 2
    return decide(
        pool,
        scores or FilterScores(np.arange(len(pool), dtype=float), is_vog=True),
        config_of(**sections),
        min_share_of={c.source_id: 0.2 if int(c.source_id) < half else 0.5 for c in pool},
        earlier=earlier,
        measure=truth,
    )


def test_what_is_kept_is_what_the_best_options_have_in_common() -> None:
    pool = pool_of()
    gain = {
        c.id: (c.strength == 0.75) + (int(c.source_id) < 18) + 0.05 * int(c.source_id) for c in pool
    }
    truth = Truth(gain)
    choice = choice_of(pool, truth)
    assert {name: choice.values[name] for name in ("strength", "share", "drop_share")} == {
        "strength": 0.75, "share": 0.2, "drop_share": 0.5,
    }  # fmt: skip
    kept = {int(c.source_id) for c in choice.judged if c.kept}
    # of 1, 4, 7, 10, 13, 16 the filter drops half a class, rounded down: the lowest of three
    assert kept == {7, 10, 13, 16}
    assert choice.values["gain"] == pytest.approx(sum(gain[pool[i].id] for i in kept) / len(kept))
    reasons = Counter(c.rejected_by for c in choice.judged)
    assert reasons == {OTHER_STRENGTH: 24, OTHER_SHARE: 6, "vog": 2, None: 4}
    assert [c.id for c in choice.judged] == [c.id for c in pool]
    assert [c.vog for c in choice.judged] == list(range(36))
    assert "strength 0.75, selection share 0.2, drop share 0.5" in choice.notes[0]


def test_every_option_is_tried_and_the_last_one_is_what_is_kept() -> None:
    truth = Truth({c.id: c.strength == 0.9 for c in pool_of()})
    choice_of(pool_of(), truth)
    assert [(knob, option) for knob, option, _ in truth.tried] == [
        ("none", None), ("strength", None), *(("strength", s) for s in STRENGTHS),
        *(("share", s) for s in SHARES), *(("drop_share", d) for d in DROPS),
    ]  # fmt: skip
    assert len(truth.tried) == max_probes(config_of().adaptive)
    assert [images for *_, images in truth.tried] == [0, 36, 12, 12, 12, 6, 12, 12, 6]


def test_where_validation_cannot_tell_every_image_is_kept() -> None:
    random = np.random.default_rng(1)
    truth = Truth({c.id: random.normal(0, 0.001) for c in pool_of()}, noise=0.01)
    choice = choice_of(pool_of(), truth)
    assert all(c.kept for c in choice.judged)
    assert choice.values["strength"] is None
    assert "strength mixed, selection share 0.5, drop share 0 " in choice.notes[0]


@pytest.mark.parametrize(("gain", "hurts"), [(-0.0163, False), (-0.0165, True)])
def test_images_that_hurt_by_more_than_noise_are_all_dropped(gain: float, hurts: bool) -> None:
    truth = Truth(dict.fromkeys((c.id for c in pool_of()), gain), noise=0.01)
    choice = choice_of(pool_of(), truth)
    assert {c.rejected_by for c in choice.judged} == ({HURTS_VALIDATION} if hurts else {None})
    assert ("Every image of this round was rejected" in choice.notes[0]) is hurts
    assert choice.values["gain"] == pytest.approx(gain)


@pytest.mark.parametrize("part", [STRENGTHS, STRENGTHS[:1]])
def test_images_with_which_training_diverges_are_dropped(part: tuple[float, ...]) -> None:
    truth = Truth({c.id: math.nan if c.strength in part else 0.1 for c in pool_of()})
    choice = choice_of(pool_of(), truth)
    if part == STRENGTHS:
        assert {c.rejected_by for c in choice.judged} == {HURTS_VALIDATION}
        assert "diverged" in choice.notes[0]
        assert choice.values == {"gain": None, "standard_error": None}
    else:
        assert choice.values["strength"] in STRENGTHS[1:]
        assert all(c.strength not in part for c in choice.judged if c.kept)


def test_a_filter_that_cannot_speak_drops_nothing_and_its_note_is_kept() -> None:
    truth = Truth(dict.fromkeys((c.id for c in pool_of()), 0.1))
    choice = choice_of(pool_of(), truth, scores=FilterScores(None, "too few checkpoints"))
    assert truth.tried[-1] == ("drop_share", 0.0, 36)
    assert choice.notes[0] == "too few checkpoints"
    assert len(choice.notes) == 2


def test_a_knob_without_values_stays_as_it_is_set() -> None:
    truth = Truth(dict.fromkeys((c.id for c in pool_of()), 0.1))
    choice = choice_of(
        pool_of(), truth, adaptive={"strengths": [], "shares": [], "drop_shares": []},
        filter={"drop_share": 0.25},
    )  # fmt: skip
    assert [row[:2] for row in truth.tried] == [("none", None), ("drop_share", 0.25)]
    assert sum(c.rejected_by == "vog" for c in choice.judged) == 2 * math.floor(18 / 4)
    assert choice.values.keys() == {"drop_share", "gain", "standard_error"}


# Settings


@pytest.mark.parametrize(
    ("sections", "says"),
    [
        ({"adaptive": {"strengths": [0.5]}}, "adaptive.strengths must be two or more"),
        ({"adaptive": {"shares": [0.5, 0.2]}}, "increasing"),
        ({"adaptive": {"drop_shares": [0.5, 1.0]}}, "from 0 to 0.99"),
        ({"training": {"real_images": False}}, "training.real_images must be true"),
        ({"generation": {"num_inference_steps": 1}}, "at least 1 executed step, got 1 * 0.5"),
        ({"prompting": {"rewrites": 2}}, "raise prompting.rewrites"),
        ({"agent": {"guard": True}, "training": {"real_images": False},
          "adaptive": {"enabled": False}}, "agent.guard continues on real images alone"),
    ],
)  # fmt: skip
def test_settings_that_do_not_fit_are_refused(sections: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        config_of(**sections)
    assert any(says in problem for problem in caught.value.problems)


def test_without_the_agent_nothing_is_tried_and_nothing_refused() -> None:
    config_of(agent={"enabled": False}, prompting={"rewrites": 1})
    assert AdaptiveConfig().enabled is False
