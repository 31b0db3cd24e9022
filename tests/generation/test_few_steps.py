"""Few steps on tiny instances of the real classes: how many are executed, and LoRAs for them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from gendataagent.config import GenerationConfig
from gendataagent.core.errors import GenerationError, ModelError
from gendataagent.core.steps import executed_steps
from gendataagent.generation.diffusion import DiffusionFactory
from gendataagent.generation.diffusion.generator import DiffusionGenerator
from tests.generation.conformance import check_generator, pixels, render_request
from tests.tiny_models import (
    save_tiny_flux,
    save_tiny_lcm,
    save_tiny_lora,
    save_tiny_pipeline,
    save_tiny_sd3,
    save_tiny_sdxl,
)

FAMILIES: dict[str, Callable[[Path], Path]] = {
    "sd": save_tiny_pipeline, "sdxl": save_tiny_sdxl, "lcm": save_tiny_lcm, "sd3": save_tiny_sd3,
    "flux": save_tiny_flux,
}  # fmt: skip
# Few steps; 29 * 100 and 0.58 * 50 are below 29 as floats; flow matching rounds up by itself.
CASES = ((4, 0.75), (4, 0.6), (4, 0.5), (2, 0.5), (1, 1.0), (3, 0.34), (50, 0.58), (7, 0.99))
HYPER = "Hyper-SD15-4steps-lora.safetensors"


@contextmanager
def denoising(generator: DiffusionGenerator) -> Iterator[list[None]]:
    """Count the passes of the network."""
    pipeline, passes = generator.pipeline, list[None]()
    network = getattr(pipeline, "unet", None) or pipeline.transformer
    hook = network.register_forward_pre_hook(lambda *_: passes.append(None))
    yield passes
    hook.remove()


@pytest.mark.parametrize(
    "family",
    [*list(FAMILIES)[:-1], pytest.param("flux", marks=pytest.mark.slow)],
)
def test_every_family_executes_the_steps_that_were_asked_for(family: str, tmp_path: Path) -> None:
    folder = FAMILIES[family](tmp_path / family)
    generator = DiffusionFactory(model=str(folder), batch_size=1)()
    for steps, strength in CASES:
        one = render_request(0, num_inference_steps=steps, strength=strength, guidance_scale=0.0)
        with denoising(generator) as passes:
            generator.render([one])
        assert len(passes) == executed_steps(steps, strength), (steps, strength)
    with pytest.raises(GenerationError, match=r"at least 1 executed step, got 2 \* 0.4; raise one"):
        generator.render([render_request(0, num_inference_steps=2, strength=0.4)])


@pytest.mark.parametrize(
    ("name", "scheduler", "spacing", "executed"),
    [
        ("lcm-lora-sdv1-5.safetensors", "LCMScheduler", None, 3),
        ("TCD-SD15-LoRA.safetensors", "TCDScheduler", None, 3),
        (HYPER, "DDIMScheduler", "trailing", 3),
        ("sdxl_lightning_8step_lora.safetensors", "EulerDiscreteScheduler", "trailing", 6),
    ],
)
def test_a_lora_brings_its_scheduler_steps_and_guidance(
    name: str, scheduler: str, spacing: str | None, executed: int, tiny_pipeline_folder: Path,
    tmp_path: Path,
) -> None:  # fmt: skip
    lora = save_tiny_lora(tmp_path).rename(tmp_path / name)
    settings = GenerationConfig(few_step_lora=str(lora), strength=0.75, batch_size=2)
    factory = DiffusionFactory.from_config(settings, str(tiny_pipeline_folder), "cpu")
    factory.check()
    generator = factory()
    assert type(generator.pipeline.scheduler).__name__ == scheduler
    if spacing:
        assert generator.pipeline.scheduler.config.timestep_spacing == spacing
    one = render_request(
        0, num_inference_steps=settings.steps, strength=0.75, guidance_scale=settings.guidance
    )
    with denoising(generator) as passes:
        (result,) = generator.render([one])
    assert len(passes) == executed
    assert result.image is not None
    assert lora.name not in generator.description.revision
    assert generator.description.revision.endswith("@1")


def test_a_few_step_lora_is_merged_at_full_strength_beside_another(
    tiny_pipeline_folder: Path, tmp_path: Path
) -> None:
    from safetensors.torch import load_file

    few = save_tiny_lora(tmp_path / "few", seed=1)
    few = few.rename(few.with_name(HYPER))
    own = save_tiny_lora(tmp_path / "own", seed=2)
    layer = "mid_block.attentions.0.transformer_blocks.0.attn2.to_k"

    def product(path: Path) -> torch.Tensor:
        weights = load_file(path)
        a, b = (weights[f"unet.{layer}.lora.{half}.weight"] for half in ("down", "up"))
        return b @ a

    plain = DiffusionFactory(model=str(tiny_pipeline_folder), dtype="float32")
    both = replace(plain, few_step_lora=str(few), lora=str(own), lora_scale=0.25)
    both.check()
    before, after = (f().pipeline.unet.get_submodule(layer).weight.detach() for f in (plain, both))
    torch.testing.assert_close(after, before + product(few) + 0.25 * product(own))
    assert both.describe() != replace(both, few_step_lora="").describe()


def test_a_few_step_lora_of_another_model_names_its_setting(
    tiny_pipeline_folder: Path, tmp_path: Path
) -> None:
    wide = save_tiny_lora(tmp_path / "wide", width=24)
    factory = DiffusionFactory(model=str(tiny_pipeline_folder), few_step_lora=str(wide))
    for refuses in (factory.check, factory):
        with pytest.raises(ModelError, match=r"^generation\.few_step_lora: .* does not fit"):
            refuses()
    missing = replace(factory, few_step_lora=str(tmp_path / "none.safetensors"))
    with pytest.raises(ModelError, match=r"^generation\.few_step_lora: there is no file"):
        missing.check()


@pytest.mark.parametrize(
    ("name", "passes"),
    [
        ("DDIMScheduler", (1, 2, 3)), ("EulerAncestralDiscreteScheduler", (1, 2, 3)),
        ("DPMSolverSinglestepScheduler", (1, 2, 3)), ("SASolverScheduler", (1, 2, 3)),
        ("HeunDiscreteScheduler", (1, 3, 5)), ("PNDMScheduler", (2, 3, 4)),
    ],
)  # fmt: skip
def test_few_steps_take_as_many_passes_as_a_scheduler_needs(
    name: str, passes: tuple[int, ...], tiny_pipeline_folder: Path
) -> None:
    """Heun computes each step but the last twice, PNDM one step more."""
    factory = DiffusionFactory(model=str(tiny_pipeline_folder), scheduler=name, batch_size=1)
    factory.check()
    generator = factory()
    for steps, expected in zip(((2, 0.5), (4, 0.5), (4, 0.75)), passes, strict=True):
        one = render_request(0, num_inference_steps=steps[0], strength=steps[1], guidance_scale=0.0)
        with denoising(generator) as made:
            generator.render([one])
        assert len(made) == expected


def test_steps_that_a_scheduler_cannot_take_are_refused_before_anything_is_made(
    tiny_pipeline_folder: Path, tmp_path: Path
) -> None:
    factory = DiffusionFactory(model=str(tiny_pipeline_folder), scheduler="LCMScheduler", steps=51)
    message = r"num_inference_steps: LCMScheduler cannot take 51 \(.*\); lower it"
    with pytest.raises(ModelError, match=message):
        factory.check()
    replace(factory, steps=50).check()
    flow = DiffusionFactory(model=str(save_tiny_sd3(tmp_path / "sd3")), steps=51)
    flow.check()


def test_a_turbo_model_keeps_its_scheduler_and_conforms(tmp_path: Path) -> None:
    """As SD-Turbo on the hub: Stable Diffusion 2 whose own scheduler is Euler, trailing."""
    from diffusers import EulerDiscreteScheduler, StableDiffusionImg2ImgPipeline

    folder = save_tiny_pipeline(tmp_path / "sd-turbo")
    pipeline: Any = StableDiffusionImg2ImgPipeline.from_pretrained(folder)
    pipeline.scheduler = EulerDiscreteScheduler(steps_offset=1, timestep_spacing="trailing")
    pipeline.save_pretrained(folder)
    settings = GenerationConfig(generator=str(folder), strength=0.75, batch_size=4)
    factory = DiffusionFactory.from_config(settings, str(folder), "cpu")
    generator = factory()
    assert generator.pipeline.scheduler.config.timestep_spacing == "trailing"
    assert (settings.steps, settings.guidance) == (4, 0.0)
    one = render_request(0, num_inference_steps=settings.steps, guidance_scale=settings.guidance)
    timesteps = []
    hook = generator.pipeline.unet.register_forward_pre_hook(
        lambda _, arguments: timesteps.append((float(arguments[1]), len(arguments[0])))
    )
    assert pixels(generator.render([one]))[0]
    hook.remove()
    # three of the four steps it was distilled for, one pass a step
    assert timesteps == [(749.0, 4), (499.0, 4), (249.0, 4)]
    check_generator(factory, items=3)
