"""x0 = a z + b o, against what each scheduler itself predicts."""

from __future__ import annotations

from typing import Any

import diffusers
import pytest
import torch

from gendataagent.core.errors import ModelError
from gendataagent.generation.feedback.clean_latent import (
    STEERABLE,
    check_scheduler,
    clean_latent_weights,
)

STEPS = 6
BY_CONVERSION = (
    "UniPCMultistepScheduler",
    "DPMSolverMultistepScheduler",
    "DPMSolverSinglestepScheduler",
)
BY_STEP = (
    "DDIMScheduler", "DDPMScheduler", "EulerDiscreteScheduler", "EulerAncestralDiscreteScheduler",
    "LMSDiscreteScheduler",
)  # fmt: skip
KINDS = ("epsilon", "v_prediction", "sample")


def made(name: str, **settings: Any) -> Any:
    scheduler = getattr(diffusers, name)(**settings)
    scheduler.set_timesteps(STEPS)
    return scheduler


def tensors(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    shape = (2, 4, 8, 8)
    return torch.randn(shape, generator=generator), torch.randn(shape, generator=generator)


def predicted(scheduler: Any, timestep: Any, z: torch.Tensor, o: torch.Tensor) -> torch.Tensor:
    of_latent, of_output = clean_latent_weights(scheduler, timestep)
    return of_latent * z + of_output * o


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        (name, kind)
        for name in BY_STEP
        for kind in KINDS
        if (name, kind) != ("EulerAncestralDiscreteScheduler", "sample")  # not in diffusers
    ],
)
def test_it_is_the_original_sample_of_the_schedulers_step(name: str, kind: str) -> None:
    options = {} if "Discrete" in name else {"clip_sample": False}
    scheduler = made(name, prediction_type=kind, **options)
    for timestep in scheduler.timesteps:
        z, o = tensors(int(timestep))
        if hasattr(scheduler, "scale_model_input"):
            scheduler.scale_model_input(z, timestep)
        ours = predicted(scheduler, timestep, z, o)
        step = scheduler.step(o, timestep, z)
        assert torch.allclose(ours, step.pred_original_sample, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", BY_CONVERSION)
def test_it_is_what_a_multistep_scheduler_converts_to(name: str, kind: str) -> None:
    scheduler = made(name, prediction_type=kind)
    for timestep in scheduler.timesteps[:-1]:
        z, o = tensors(int(timestep))
        ours = predicted(scheduler, timestep, z, o)
        assert torch.allclose(
            ours, scheduler.convert_model_output(o, sample=z), rtol=1e-4, atol=1e-4
        )
        scheduler.step(o, timestep, z)


def test_flow_matching_and_flow_sigmas() -> None:
    flow = made("FlowMatchEulerDiscreteScheduler", shift=3.0)
    for timestep, sigma in zip(flow.timesteps, flow.sigmas, strict=False):
        z, o = tensors()
        assert torch.allclose(predicted(flow, timestep, z, o), z - sigma * o)
        flow.step(o, timestep, z)
    unipc = made("UniPCMultistepScheduler", prediction_type="flow_prediction", use_flow_sigmas=True)
    z, o = tensors()
    ours = predicted(unipc, unipc.timesteps[0], z, o)
    assert torch.allclose(ours, unipc.convert_model_output(o, sample=z), atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_deis_converts_to_the_noise_that_it_leaves(kind: str) -> None:
    scheduler = made("DEISMultistepScheduler", prediction_type=kind)
    for timestep in scheduler.timesteps[:-1]:
        z, o = tensors(int(timestep))
        clean = predicted(scheduler, timestep, z, o)
        alpha, sigma = scheduler._sigma_to_alpha_sigma_t(scheduler.sigmas[scheduler.step_index])
        noise = scheduler.convert_model_output(o, sample=z)
        assert torch.allclose((z - alpha * clean) / sigma, noise, rtol=1e-3, atol=1e-3)
        scheduler.step(o, timestep, z)


@pytest.mark.parametrize("name", ["LCMScheduler", "TCDScheduler"])
def test_a_consistency_scheduler(name: str) -> None:
    scheduler = getattr(diffusers, name)(clip_sample=False)
    scheduler.set_timesteps(4)
    timestep = scheduler.timesteps[0]
    z, o = tensors()
    alpha_bar = scheduler.alphas_cumprod[timestep]
    expected = (z - (1 - alpha_bar).sqrt() * o) / alpha_bar.sqrt()
    assert torch.allclose(predicted(scheduler, timestep, z, o), expected, rtol=1e-4, atol=1e-4)


def test_other_schedulers_are_refused_with_the_ones_allowed() -> None:
    with pytest.raises(ModelError, match=r"cannot steer PNDMScheduler.*UniPCMultistepScheduler"):
        clean_latent_weights(made("PNDMScheduler"), 1)
    for name in STEERABLE:
        check_scheduler(name)
        assert hasattr(diffusers, name)
