"""Every preset is valid, says what it is for, and has the paper's numbers where it claims them."""

from __future__ import annotations

import itertools
import re
from dataclasses import replace

import pytest

from gendataagent.config import AUTO, RunConfig
from gendataagent.config.presets import list_presets, preset_settings, preset_text
from gendataagent.core.errors import ConfigError
from gendataagent.core.steps import executed_steps
from gendataagent.data.official import PAPER
from gendataagent.runs.planning.facts import BACKBONES, CAPTIONERS, DECODERS, GENERATORS, MODELS
from gendataagent.runs.preflight import problems

PAPER_PRESETS = [f"paper-{layout}" for layout in PAPER]
# Tables 2 (best strength; Food is flat), 4 (best share dropped) and 6 (size)
FROM_TABLES = {
    "pets": (0.9, 0.75, 224),
    "cub": (0.9, 0.5, 448),
    "flowers": (0.5, 0.75, 224),
    "birdsnap": (0.75, 0.75, 224),
    "food": (0.75, 0.25, 224),
    "in100": (0.9, 0.25, 224),
}


def resolved(name: str) -> RunConfig:
    return RunConfig.from_dict(preset_settings(name), problems)


def test_every_preset_is_valid_and_says_what_it_is_for() -> None:
    presets = list_presets()
    assert {"demo", "quick", *PAPER_PRESETS} <= {preset.name for preset in presets}
    for preset in presets:
        resolved(preset.name)
        assert 20 < len(preset.about) < 100, preset


@pytest.mark.parametrize("layout", PAPER)
def test_a_paper_preset_has_the_numbers_of_the_tables(layout: str) -> None:
    config = resolved(f"paper-{layout}")
    strength, dropped, size_px = FROM_TABLES[layout]
    assert (config.data.layout, config.data.path) == (layout, "")
    assert config.generation.strength == strength
    assert config.filter.drop_share == dropped
    assert config.classifier.size_px == size_px
    assert (config.training.epochs, config.agent.rounds) == (200, 20)
    assert [mark * 200 for mark in config.training.decay_milestones] == [50, 100, 150]
    assert config.classifier.pretrained is (layout != "in100")
    assert config.adaptation.enabled


@pytest.mark.parametrize("layout", PAPER)
def test_the_rate_for_one_gpu_is_the_papers_for_its_eight(layout: str) -> None:
    training = resolved(f"paper-{layout}").training
    batch, rate = (512, 0.2) if layout == "cub" else (1024, 0.1)
    assert training.learning_rate / training.batch_size == pytest.approx(rate / batch)
    assert training.batch_size * 8 == batch
    assert f"batch_size = {batch}, learning_rate = {rate}" in preset_text(f"paper-{layout}")


@pytest.mark.parametrize("name", PAPER_PRESETS)
def test_every_value_of_a_paper_preset_has_its_source(name: str) -> None:
    lines = preset_text(name).splitlines()
    for before, line in itertools.pairwise(lines):
        if "=" not in line or line.startswith("#"):
            continue
        comment = line.partition("#")[2] or before
        tagged = re.search(r"\[[SRCI?](, [SRCI?])*\]", comment) or "ours" in comment
        assert tagged or line.startswith(("path", "drop_share", "enabled", "by")), line


OWN_IMAGES = ("quick", "turbo", "laptop")


@pytest.mark.parametrize("name", [*PAPER_PRESETS, *OWN_IMAGES])
def test_a_plan_knows_every_model_of_a_preset(name: str) -> None:
    config = resolved(name)
    assert config.generation.generator in GENERATORS
    assert config.prompting.captioner in CAPTIONERS
    assert config.classifier.model in BACKBONES
    for model in (config.generation.generator, config.prompting.captioner,
                  config.prompting.rewriter, config.classifier.model):  # fmt: skip
        assert model in MODELS
    assert config.generation.variant in MODELS[config.generation.generator].variants


@pytest.mark.parametrize("name", OWN_IMAGES)
def test_presets_for_own_images_need_no_login(name: str) -> None:
    config = resolved(name)
    used = (config.generation.generator, config.prompting.captioner, config.prompting.rewriter)
    assert not any(MODELS[name].gated for name in used)


@pytest.mark.parametrize(("name", "executed"), [("turbo", 3), ("laptop", 2)])
def test_presets_for_few_steps_have_the_values_of_their_generator(name: str, executed: int) -> None:
    settings = resolved(name).generation
    assert executed_steps(settings.steps, settings.strength) == executed
    auto = replace(settings, num_inference_steps=AUTO, guidance_scale=AUTO, scheduler=AUTO)
    assert settings.few_steps is not None
    assert auto.decided() == settings.decided()
    assert settings.decoder in ("vae", *DECODERS)


def test_a_misspelt_preset_suggests_the_closest_name() -> None:
    with pytest.raises(ConfigError, match="did you mean paper-pets"):
        preset_settings("paper-pet")
    with pytest.raises(ConfigError, match="there are: demo, laptop, paper-birdsnap"):
        preset_text("xyz")
