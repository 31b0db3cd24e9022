"""The cost model of an arm, by hand."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from time_costs import (
    ArmCost,
    Timed,
    arm_cost,
    caption_prices,
    image_kind,
    image_prices,
)

from gendataagent.config import RunConfig
from gendataagent.config.agent import AdaptiveConfig
from gendataagent.core.records import RoundRecord

GENERATION = {
    "generator": "tiny-sd", "num_inference_steps": 12, "strength": 0.8, "guidance_scale": 7.5,
}  # fmt: skip
ALIKE = "tiny-sd, 9 steps, guided"


def config(captioner: str = "visible-attributes", **generation: Any) -> RunConfig:
    return RunConfig.from_dict(
        {"generation": {**GENERATION, **generation}, "prompting": {"captioner": captioner}}
    )


def timed(
    settings: RunConfig,
    *batches: tuple[str, float],
    captions: tuple[tuple[str, float], ...] = (),
    steps: tuple[float, ...] = (1.0,),
    baseline_steps: tuple[float, ...] = (),
    adapt_seconds: float = 0.0,
    rounds: tuple[Mapping[str, float], ...] = (),
) -> Timed:
    """A run; images and captions are letters."""
    return Timed(
        config=settings,
        steps=steps,
        baseline_steps=baseline_steps,
        batches=tuple((tuple(names), seconds) for names, seconds in batches),
        captions=tuple((tuple(names), seconds) for names, seconds in captions),
        rounds=tuple(
            RoundRecord(round=number, epoch=number, selected=1, made=10, kept=5, seconds=seconds)
            for number, seconds in enumerate(rounds)
        ),
        adapt_seconds=adapt_seconds,
    )


def test_an_image_costs_the_slowest_time_of_the_runs_that_used_it() -> None:
    runs = [
        timed(config(), ("abc", 0.3), ("de", 0.4)),
        timed(config(), ("abc", 0.001), ("fg", 0.5)),  # found a, b and c on disk
        timed(config(), ("abc", 0.001), ("de", 0.001)),
    ]
    assert image_prices(runs) == {ALIKE: 0.4}  # of three, two and two
    assert image_prices(reversed(runs)) == {ALIKE: 0.4}


def test_images_with_other_steps_guidance_or_size_are_a_kind_of_their_own() -> None:
    runs = [
        timed(config(), ("ab", 0.3)),
        timed(config(strength=0.5), ("cd", 0.2)),
        timed(config(guidance_scale=1.0), ("ef", 0.15)),
        timed(config(guidance_scale=2.0), ("gh", 0.3)),  # guided, as the first
        timed(config(size_px=64), ("ij", 1.2)),
        timed(config()),
    ]
    assert image_prices(runs) == {
        ALIKE: 0.3, "tiny-sd, 6 steps, guided": 0.2, "tiny-sd, 9 steps, not guided": 0.15,
        "tiny-sd, 9 steps, guided, 64 px": 1.2,
    }  # fmt: skip
    assert image_kind(config(merge_tokens=0.5)) == f"{ALIKE}, 0.5 merged"
    assert (
        image_kind(config(feedback="loss", decoder="a/taesd")) == f"{ALIKE}, taesd, loss feedback"
    )
    adaptive = replace(config(), adaptive=AdaptiveConfig(enabled=True))
    assert image_kind(adaptive) == f"{ALIKE}, adaptive"
    # 28.999999999999996 as a float
    assert image_kind(config(num_inference_steps=100, strength=0.29)) == (
        "tiny-sd, 29 steps, guided"
    )


def test_captions_of_models_are_shared_and_bundled_ones_are_not() -> None:
    def prices(captioner: str) -> Mapping[str, float]:
        return caption_prices(
            [
                timed(config(captioner), captions=(("abc", 0.5), ("d", 0.7))),
                timed(config(captioner), captions=(("abcd", 0.1),)),
            ]
        )

    assert prices("some/model") == {"some/model": 0.5}
    assert prices("visible-attributes") == {"visible-attributes": 0.3}  # 4 x 0.1, 3 x 0.5, 0.7
    assert caption_prices([timed(config())]) == {}


def test_an_arm_costs_medians_over_its_seeds() -> None:
    def of_seed(slowness: float) -> Timed:
        return timed(
            config(),
            captions=(("abcd", 9.0), ("ef", 9.0)),
            steps=(0.1 * slowness, 0.2 * slowness, 0.2 * slowness),
            rounds=(
                {"select": 1.0 * slowness, "rewrite": 2.0 * slowness, "render": 99.0},
                {
                    "select": 1.5 * slowness,
                    "rewrite": 2.0 * slowness,
                    "filter": 4.0 * slowness,
                    "probe": 0.5 * slowness,
                },
            ),
            adapt_seconds=20.0 * slowness,
        )

    runs = [of_seed(7.0), of_seed(1.0), of_seed(2.0)]
    cost = arm_cost(runs, images={ALIKE: 0.5}, captions={"visible-attributes": 0.25})
    assert cost == ArmCost(
        step_seconds=0.4,  # of .1 .2 .2, .2 .4 .4, .7 1.4 1.4
        images=20,
        image_seconds=0.5,
        captions=6,
        caption_seconds=0.25,
        rewrite_seconds=8.0,
        select_seconds=5.0,
        filter_seconds=8.0,
        probe_seconds=1.0,
        adapt_seconds=40.0,
    )
    assert cost.beside_training == pytest.approx(20 * 0.5 + 6 * 0.25 + 8 + 5 + 8 + 1 + 40)
    assert cost.seconds(100) == pytest.approx(cost.beside_training + 40)


def test_a_guarded_run_trains_its_baseline_too() -> None:
    run = timed(config(), steps=(0.3, 0.5, 0.4), baseline_steps=(0.1, 0.2, 0.3))
    assert arm_cost([run], images={}, captions={}).step_seconds == pytest.approx(0.6)


def test_an_arm_without_images_costs_its_steps() -> None:
    settings = replace(config(), seed=3)
    cost = arm_cost([timed(settings, steps=(0.5, 0.5))], images={}, captions={})
    assert (cost.images, cost.captions, cost.beside_training) == (0, 0, 0)
    assert cost.seconds(10) == 5
