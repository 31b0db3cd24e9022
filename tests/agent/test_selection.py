"""Selection: hand-computed scores; the result depends on scores and ids alone."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gendataagent.agent.selection import (
    SELECTORS,
    SelectionContext,
    class_errors,
    count_selected,
    select,
    take_lowest,
)
from gendataagent.agent.selection.words import selected_noun
from gendataagent.config import SelectionConfig
from gendataagent.core.errors import ScoreError
from gendataagent.core.records import Scored

PROBABILITIES_NC = np.array(
    [[0.7, 0.2, 0.1], [0.25, 0.25, 0.5], [1.0, 0.0, 0.0], [0.4, 0.35, 0.25]], dtype=np.float32
)


def context_of(
    ids: tuple[str, ...] = ("a", "b", "c", "d"),
    labels: tuple[int, ...] = (0, 0, 1, 2),
    probabilities_NC: np.ndarray = PROBABILITIES_NC,
    seed: int = 0,
) -> SelectionContext:
    return SelectionContext(
        source_ids=ids, labels_N=np.array(labels), probabilities_NC=probabilities_NC, seed=seed
    )


@pytest.mark.parametrize(
    ("name", "scores"),
    [
        ("marginal", [0.7, 0.25, 0.0, 0.25]),
        ("margin", [0.5, 0.25, 1.0, 0.05]),
        (
            "entropy",
            [
                0.7 * math.log(0.7) + 0.2 * math.log(0.2) + 0.1 * math.log(0.1),
                2 * 0.25 * math.log(0.25) + 0.5 * math.log(0.5),
                0.0,
                0.4 * math.log(0.4) + 0.35 * math.log(0.35) + 0.25 * math.log(0.25),
            ],
        ),
    ],
)
def test_scores_are_those_computed_by_hand(name: str, scores: list[float]) -> None:
    found_N = SELECTORS[name](context_of())
    assert found_N.shape == (4,)
    np.testing.assert_allclose(found_N, scores, atol=1e-6)


def test_uniform_scores_depend_on_seed_and_id_not_on_place_or_image() -> None:
    one = dict(zip("abcd", SELECTORS["uniform"](context_of()), strict=True))
    turned = context_of(ids=("d", "c", "b", "a"), probabilities_NC=PROBABILITIES_NC[::-1])
    assert dict(zip("dcba", SELECTORS["uniform"](turned), strict=True)) == one
    assert dict(zip("abcd", SELECTORS["uniform"](context_of(seed=1)), strict=True)) != one


def test_uniform_scores_are_spread_over_0_to_1() -> None:
    ids = tuple(f"{i}" for i in range(2000))
    scores_N = SELECTORS["uniform"](context_of(ids, (0,) * 2000))
    assert scores_N.min() >= 0
    assert scores_N.max() <= 1
    assert np.histogram(scores_N, 10, (0, 1))[0].min() > 150


def test_the_lowest_scores_are_chosen_lowest_first() -> None:
    chosen = take_lowest(context_of(), np.array([0.3, 0.1, 0.9, 0.2]), 0.75, per_class=False)
    assert [(s.source_id, s.label, s.score) for s in chosen] == [
        ("b", 0, 0.1), ("d", 2, 0.2), ("a", 0, 0.3),
    ]  # fmt: skip


def test_ties_go_by_id() -> None:
    chosen = take_lowest(context_of(ids=("d", "a", "c", "b")), np.zeros(4), 0.5, per_class=False)
    assert [s.source_id for s in chosen] == ["a", "b"]


def test_per_class_takes_the_share_of_each_and_at_least_one() -> None:
    ids = tuple(f"{i:02d}" for i in range(13))
    labels = (0,) * 10 + (1,) * 2 + (5,)
    scores_N = np.arange(13.0)
    chosen = take_lowest(context_of(ids, labels), scores_N, 0.2, per_class=True)
    assert [s.source_id for s in chosen] == ["00", "01", "10", "12"]
    whole = take_lowest(context_of(ids, labels), scores_N, 0.2, per_class=False)
    assert [s.source_id for s in whole] == ["00", "01", "02"]


@pytest.mark.parametrize(("share", "count"), [(0.01, 1), (0.3, 1), (0.5, 2), (0.7, 3), (1.0, 4)])
def test_the_number_chosen_is_the_nearest_and_at_least_one(share: float, count: int) -> None:
    assert len(take_lowest(context_of(), np.arange(4.0), share, per_class=False)) == count


def test_nothing_is_chosen_from_nothing() -> None:
    empty = context_of((), (), np.zeros((0, 3)))
    assert take_lowest(empty, np.zeros(0), 0.5, per_class=False) == []
    assert take_lowest(empty, np.zeros(0), 0.5, per_class=True) == []


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_scores_that_are_not_finite_are_refused_with_the_ids(value: float) -> None:
    scores_N = np.array([0.5, value, 0.1, value])
    with pytest.raises(ScoreError, match=r"of 2 images is not finite: b, d\. The classifier"):
        take_lowest(context_of(), scores_N, 0.5, per_class=False)


def test_a_wrong_number_of_scores_is_refused() -> None:
    for scores in (np.zeros(3), np.zeros((4, 1))):
        with pytest.raises(ScoreError, match=r"shape \(4,\); got shape"):
            take_lowest(context_of(), scores, 0.5, per_class=False)


@given(
    st.lists(st.tuples(st.integers(0, 2), st.sampled_from([0.0, 0.1, 0.5, 1.0])), min_size=1),
    st.floats(0.01, 1.0),
    st.booleans(),
    st.randoms(use_true_random=False),
)
def test_the_choice_does_not_depend_on_the_order_of_the_images(
    images: list[tuple[int, float]], share: float, per_class: bool, random: object
) -> None:
    rows = [(f"id{i}", label, score) for i, (label, score) in enumerate(images)]
    turned = list(rows)
    random.shuffle(turned)  # type: ignore[attr-defined]
    one, other = (
        take_lowest(
            context_of(
                tuple(r[0] for r in order),
                tuple(r[1] for r in order),
                np.zeros((len(order), 3)),
            ),
            np.array([r[2] for r in order]),
            share,
            per_class=per_class,
        )
        for order in (rows, turned)
    )
    assert one == other


def labelled(sizes: tuple[int, ...], p_true: tuple[float, ...]) -> SelectionContext:
    """Return classes of these sizes, each of whose images has this probability of its class."""
    labels = np.repeat(np.arange(len(sizes)), sizes)
    rest = (1 - np.array(p_true)) / (len(sizes) - 1)
    probabilities_NC = np.tile(rest[labels][:, None], (1, len(sizes)))
    probabilities_NC[np.arange(len(labels)), labels] = np.array(p_true)[labels]
    ids = tuple(f"{i:03d}" for i in range(len(labels)))
    return context_of(ids, tuple(labels.tolist()), probabilities_NC)


def per_class(chosen: list[Scored], classes: int) -> list[int]:
    return [sum(scored.label == label for scored in chosen) for label in range(classes)]


def test_class_errors_are_how_unlikely_the_true_class_is_on_average() -> None:
    errors_C = class_errors(np.array([0, 0, 1]), PROBABILITIES_NC[:3])
    np.testing.assert_allclose(errors_C, [(0.3 + 0.75) / 2, 1.0, (0.3 + 0.75 + 1.0) / 3], rtol=1e-6)
    assert class_errors(np.zeros(0, int), np.zeros((0, 2))).tolist() == [1.0, 1.0]


def test_a_budget_by_error_gives_weak_classes_more_and_the_same_in_all() -> None:
    context = labelled((20, 20, 20), (0.9, 0.7, 0.4))  # errors 1 : 3 : 6
    scores_N = np.arange(60.0)
    chosen = take_lowest(context, scores_N, 0.5, per_class=False, budget_by="training-error")
    assert per_class(chosen, 3) == [3, 9, 18]
    assert per_class(take_lowest(context, scores_N, 0.5, per_class=True), 3) == [10, 10, 10]
    assert [s.score for s in chosen] == sorted(s.score for s in chosen)
    assert {s.score for s in chosen if s.label == 1} == set(range(20, 29))


def test_what_a_class_cannot_take_goes_to_the_others_in_proportion() -> None:
    context = labelled((20, 20, 20), (0.9, 0.7, 0.0))  # errors 1 : 3 : 10 of 40
    chosen = take_lowest(
        context, np.arange(60.0), 40 / 60, per_class=True, budget_by="training-error"
    )
    assert per_class(chosen, 3) == [5, 14, 20]  # 39 = three times 13; 19 left in 1 : 3


def test_validation_speaks_where_asked_and_training_where_there_is_none() -> None:
    context = labelled((20, 20), (0.5, 0.5))
    of_validation = replace(context, validation_error_C=np.array([0.2, 0.6]))

    def chosen(context: SelectionContext, by: str) -> list[int]:
        scores_N = np.arange(40.0)
        return per_class(take_lowest(context, scores_N, 0.5, per_class=False, budget_by=by), 2)

    assert chosen(of_validation, "validation-error") == [5, 15]
    assert chosen(of_validation, "training-error") == [10, 10]
    assert chosen(context, "validation-error") == [10, 10]


def test_a_class_without_errors_is_not_wholly_forgotten_nor_divides_by_0() -> None:
    context = labelled((20, 20), (1.0, 1.0))
    chosen = take_lowest(context, np.arange(40.0), 0.5, per_class=True, budget_by="training-error")
    assert per_class(chosen, 2) == [10, 10]


@given(
    st.lists(st.tuples(st.integers(1, 20), st.floats(0.0, 1.0)), min_size=2, max_size=5),
    st.floats(0.01, 1.0),
    st.floats(0.0, 0.9),
    st.booleans(),
    st.sampled_from(["size", "validation-error", "training-error"]),
)
def test_the_number_chosen_is_known_beforehand(
    classes: list[tuple[int, float]], share: float, skip: float, by_class: bool, by: str
) -> None:
    sizes, p_true = (tuple(values) for values in zip(*classes, strict=True))
    settings = SelectionConfig(share=share, skip_hardest=skip, per_class=by_class, budget_by=by)
    chosen = select(labelled(sizes, p_true), settings)
    assert len(chosen) == count_selected(sizes, settings)
    assert len({s.source_id for s in chosen}) == len(chosen)


def test_the_very_hardest_can_be_passed_over() -> None:
    context = labelled((10, 10), (0.5, 0.5))
    scores_N = np.arange(20.0)

    def chosen(share: float, skip: float, **how: Any) -> list[float]:
        found = take_lowest(
            context, scores_N, share, skip_hardest=skip, **{"per_class": False, **how}
        )
        return [scored.score for scored in found]

    assert chosen(0.2, 0.1) == [2, 3, 4, 5]
    assert chosen(0.2, 0.29) == [5, 6, 7, 8]  # rounded down
    assert chosen(0.2, 0.2, per_class=True) == [2, 3, 12, 13]
    assert chosen(0.9, 0.5) == list(range(2, 20))  # as many are selected all the same
    assert chosen(1.0, 0.9) == list(range(20))


def test_select_obeys_every_setting() -> None:
    context = labelled((20, 20), (0.9, 0.4))
    settings = SelectionConfig(
        by="uniform", share=0.35, budget_by="training-error", skip_hardest=0.1
    )
    scores_N = SELECTORS["uniform"](context)
    expected = take_lowest(
        context, scores_N, 0.35, per_class=False, budget_by="training-error", skip_hardest=0.1
    )
    assert select(context, settings) == expected
    assert select(context, SelectionConfig()) == take_lowest(
        context, SELECTORS["marginal"](context), 0.2, per_class=False
    )


@pytest.mark.parametrize("by", ["marginal", "entropy", "margin"])
def test_before_any_training_sources_are_drawn_by_seed_not_by_whole_classes(by: str) -> None:
    ids, labels = tuple(f"{i:03}" for i in range(90)), (0, 1, 2) * 30
    favours_0_NC = np.tile(np.array([[0.8, 0.15, 0.05]], dtype=np.float32), (90, 1))
    context = replace(context_of(ids, labels, favours_0_NC), untrained=True)
    settings = SelectionConfig(by=by, share=0.5)
    drawn = select(context, settings)
    assert {s.source_id for s in drawn} == {
        s.source_id for s in select(context, replace(settings, by="uniform"))
    }
    of_each = [sum(s.label == label for s in drawn) for label in range(3)]
    assert len(drawn) == count_selected([30, 30, 30], settings) == 45
    assert min(of_each) > 5
    by_error = replace(settings, budget_by="training-error")
    of_each = [sum(s.label == label for s in select(context, by_error)) for label in range(3)]
    assert of_each == [15, 15, 15]


def test_only_a_trained_classifiers_score_makes_images_hard() -> None:
    assert {by for by in SELECTORS if selected_noun(by) == "sources"} == {"uniform"}
    assert selected_noun("marginal", trained=False) == "sources"
