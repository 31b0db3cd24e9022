"""What is kept: the share of each class, from the right end, and nothing lost."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor, nn
from torch.nn.functional import normalize

from gendataagent.agent.filtering import FILTERS, FilterContext, FilterScores, drop
from gendataagent.config import FilterConfig
from gendataagent.core.checkpoints import save_weights
from gendataagent.core.errors import GenDataAgentError, ScoreError
from gendataagent.core.records import Candidate, candidate_id
from gendataagent.data.pixels import Pixels
from gendataagent.training.classifier import Classifier
from gendataagent.training.vog import variance_of_gradients

SIDE = 4


def candidate(source: str, label: int = 0, round_number: int = 0) -> Candidate:
    return Candidate(
        id=candidate_id(round_number, source, 0), round=round_number, source_id=source,
        label=label, class_name=f"class {label}", variant=0, seed=1, strength=0.5,
        guidance_scale=2.0, num_inference_steps=2, negative_prompt="",
    )  # fmt: skip


def candidates_of(labels: Sequence[int]) -> list[Candidate]:
    """Return one candidate per label, with ids that sort in this order."""
    return [replace(candidate(f"{i}", label), id=f"{i:03d}") for i, label in enumerate(labels)]


def refused(
    labels: Sequence[int], scores: Sequence[float], share: float, keep: str = "high"
) -> list[int]:
    config = FilterConfig(drop_share=share, keep=keep)
    judged = drop(candidates_of(labels), FilterScores(np.array(scores), is_vog=True), config)
    assert [c.id for c in judged] == [f"{i:03d}" for i in range(len(labels))]
    assert [c.vog for c in judged] == list(scores)
    assert {c.rejected_by for c in judged} <= {None, "vog"}
    return [i for i, c in enumerate(judged) if not c.kept]


LABELS = (0, 1, 0, 1, 0, 1, 0, 2)
SCORES = (0.9, 0.8, 0.1, 0.2, 0.5, 0.3, 0.4, 0.0)


@pytest.mark.parametrize(
    ("keep", "share", "gone"),
    [
        ("high", 0.25, [2]),  # 1 of 4, 0 of 3, 0 of 1
        ("high", 0.5, [2, 3, 6]),  # 2 of 4, 1 of 3, 0 of 1
        ("high", 0.75, [2, 3, 4, 5, 6]),  # 3 of 4, 2 of 3, 0 of 1
        ("low", 0.25, [0]),
        ("low", 0.5, [0, 1, 4]),
        ("high", 0.0, []),
        ("high", 0.99, [2, 3, 4, 5, 6]),  # one of each class always stays
    ],
)
def test_the_share_of_each_class_goes_rounded_down(
    keep: str, share: float, gone: list[int]
) -> None:
    assert refused(LABELS, SCORES, share, keep) == gone


@pytest.mark.parametrize(
    ("keep", "limit", "gone"),
    [("high", 0.4, [2, 3, 5, 7]), ("low", 0.4, [0, 1, 4]), ("high", 0.0, []), ("low", -1.0, None)],
)
def test_a_limit_drops_by_value_however_many_of_a_class_that_are(
    keep: str, limit: float, gone: list[int] | None
) -> None:
    config = FilterConfig(drop_share=0.75, keep=keep, drop_below=limit)
    judged = drop(candidates_of(LABELS), FilterScores(np.array(SCORES)), config)
    found = [i for i, c in enumerate(judged) if not c.kept]
    assert found == (list(range(len(LABELS))) if gone is None else gone)


def test_a_share_that_floating_point_makes_a_hair_too_small_is_whole() -> None:
    assert 0.29 * 100 < 29
    assert len(refused((0,) * 100, tuple(float(i) for i in range(100)), 0.29)) == 29


@pytest.mark.parametrize("keep", ["high", "low"])
def test_ties_go_by_id(keep: str) -> None:
    assert refused((0,) * 4, (0.5,) * 4, 0.5, keep) == [0, 1]


@given(st.lists(st.tuples(st.integers(0, 2), st.sampled_from([0.0, 0.5, 1.0]))), st.floats(0, 0.99),
       st.randoms(use_true_random=False))  # fmt: skip
def test_the_verdict_does_not_depend_on_the_order(
    images: list[tuple[int, float]], share: float, random: object
) -> None:
    scored = list(zip(candidates_of([i[0] for i in images]), [i[1] for i in images], strict=True))
    turned = list(scored)
    random.shuffle(turned)  # type: ignore[attr-defined]
    one, other = (
        {
            c.id: c
            for c in drop(
                [c for c, _ in order],
                FilterScores(np.array([score for _, score in order])),
                FilterConfig(drop_share=share),
            )
        }
        for order in (scored, turned)
    )
    assert one == other


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_scores_that_are_not_finite_are_refused_with_the_ids(value: float) -> None:
    with pytest.raises(ScoreError, match="of 1 images is not finite: 001"):
        refused((0, 0, 0), (0.5, value, 0.1), 0.5)


def test_a_wrong_number_of_scores_is_refused() -> None:
    for scores in (np.zeros(2), np.zeros((3, 1))):
        with pytest.raises(ScoreError, match=r"shape \(3,\); got shape"):
            drop(candidates_of((0, 0, 0)), FilterScores(scores), FilterConfig())


def test_without_scores_nothing_changes() -> None:
    given_ones = [replace(candidate("a"), rejected_by="black-image"), candidate("b")]
    assert drop(given_ones, FilterScores(None, "why"), FilterConfig()) == given_ones


def test_an_earlier_refusal_stays() -> None:
    black = replace(candidate("a"), id="9", rejected_by="black-image")
    judged = drop([black, *candidates_of((0, 0))], FilterScores(np.arange(3.0)), FilterConfig())
    assert judged[0].rejected_by == "black-image"


def test_scores_that_are_no_vog_are_not_recorded_as_one_and_name_their_filter() -> None:
    config = FilterConfig(by="random", drop_share=0.5)
    judged = drop(candidates_of((0, 0)), FilterScores(np.array([0.0, 1.0])), config)
    assert [c.vog for c in judged] == [None, None]
    assert [c.rejected_by for c in judged] == ["random", None]


@pytest.fixture
def context() -> FilterContext:
    """Three candidates with images, and a classifier whose gradient depends on its input."""
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.SiLU(), nn.Flatten(), nn.Linear(16, 2))
    classifier = Classifier.wrap(module, class_names=("a", "b"), size_px=SIDE)
    candidates = [candidate(source, label) for source, label in (("x", 0), ("y", 1), ("z", 0))]
    images = [Image.new("RGB", (SIDE, SIDE), (60 * i, 9, 90)) for i in range(3)]
    pixels = Pixels.from_pil(
        images, [c.label for c in candidates], ids=[c.id for c in candidates], size_px=SIDE
    )
    return FilterContext(
        candidates=candidates, pixels=pixels, classifier=classifier, snapshots=(),
        config=FilterConfig(), seed=0, batch_size=2,
    )  # fmt: skip


def snapshots_of(context: FilterContext, count: int, folder: Path) -> list[Path]:
    for epoch in range(count):
        weights = {k: v * (1 + epoch) for k, v in context.classifier.module.state_dict().items()}
        save_weights(folder, epoch, weights)
    return sorted(folder.iterdir())


def test_vog_is_that_of_the_snapshots_and_leaves_the_classifier_as_found(
    context: FilterContext, tmp_path: Path
) -> None:
    before = {k: v.clone() for k, v in context.classifier.module.state_dict().items()}
    context = replace(context, snapshots=snapshots_of(context, 3, tmp_path))
    scores = FILTERS["vog"](context)
    weights = [{k: v * (1 + epoch) for k, v in before.items()} for epoch in range(3)]
    expected_N = variance_of_gradients(context.classifier, weights, context.pixels, batch_size=3)
    assert scores.is_vog
    assert scores.scores_N is not None
    np.testing.assert_allclose(scores.scores_N, expected_N.numpy(), rtol=1e-5)
    assert (scores.scores_N > 0).all()
    for name, value in context.classifier.module.state_dict().items():
        assert torch.equal(value, before[name])


@pytest.mark.parametrize("have", [0, 1])
def test_vog_with_too_few_snapshots_keeps_everything_and_notes_it(
    have: int, context: FilterContext, tmp_path: Path
) -> None:
    scores = FILTERS["vog"](replace(context, snapshots=snapshots_of(context, have, tmp_path)))
    assert scores.scores_N is None
    assert f"needs 2 snapshots of the classifier, and there were {have}" in scores.note


def test_the_random_control_depends_on_seed_and_id_alone(context: FilterContext) -> None:
    scores = FILTERS["random"](context)
    turned = FILTERS["random"](replace(context, candidates=context.candidates[::-1]))
    other = FILTERS["random"](replace(context, seed=1))
    assert scores.scores_N is not None
    assert turned.scores_N is not None
    assert other.scores_N is not None
    assert list(scores.scores_N) == list(turned.scores_N)[::-1]
    assert len({*scores.scores_N, *other.scores_N}) == 6
    assert not scores.is_vog


def test_no_filter_keeps_everything_without_a_note(context: FilterContext) -> None:
    assert FILTERS["none"](context) == FilterScores(None)


def test_the_nearest_real_images_of_any_class_speak_for_a_candidate(context: FilterContext) -> None:
    images = [Image.new("RGB", (SIDE, SIDE), (9 * i, 250 - 30 * i, 40 + i)) for i in range(8)]
    real = Pixels.from_pil(
        images, [i % 2 for i in range(8)], ids=[f"r{i}" for i in range(8)], size_px=SIDE
    )
    scores = FILTERS["knn"](replace(context, real=real, config=FilterConfig(neighbours=3)))

    def unit(pixels: Pixels) -> Tensor:
        return normalize(context.classifier.features(pixels).double())

    similarity = np.sort((unit(context.pixels) @ unit(real).T).numpy(), axis=1)
    assert scores.scores_N is not None
    np.testing.assert_allclose(scores.scores_N, similarity[:, -3:].mean(axis=1), rtol=1e-5)
    assert not scores.is_vog
    all_of_few = FILTERS["knn"](replace(context, real=real))  # 15 neighbours, but 8 images
    assert all_of_few.scores_N is not None
    np.testing.assert_allclose(all_of_few.scores_N, similarity.mean(axis=1), rtol=1e-5)


def test_candidates_most_like_real_images_are_kept_by_knn(context: FilterContext) -> None:
    like_x = [Image.new("RGB", (SIDE, SIDE), (2 * i, 9, 90)) for i in range(4)]
    real = Pixels.from_pil(like_x, [0] * 4, ids=[f"r{i}" for i in range(4)], size_px=SIDE)
    config = FilterConfig(by="knn", drop_share=0.5, neighbours=2)
    context = replace(context, real=real, config=config)
    judged = drop(context.candidates, FILTERS["knn"](context), config)
    assert {c.source_id: c.rejected_by for c in judged} == {"x": None, "y": None, "z": "knn"}


def test_knn_without_real_images_says_what_it_lacks(context: FilterContext) -> None:
    with pytest.raises(GenDataAgentError, match=r"needs the real training images"):
        FILTERS["knn"](context)


def test_agreement_is_what_the_classifier_gives_the_class_it_was_made_for(
    context: FilterContext,
) -> None:
    scores = FILTERS["agreement"](context)
    probabilities_NC = context.classifier.predict_probabilities(context.pixels).numpy()
    expected = [probabilities_NC[0, 0], probabilities_NC[1, 1], probabilities_NC[2, 0]]
    assert scores.scores_N is not None
    np.testing.assert_allclose(scores.scores_N, expected, rtol=1e-5)
    assert not scores.is_vog
    assert not scores.note
