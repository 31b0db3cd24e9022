"""The loss, its weights and its targets against values worked out by hand."""

from __future__ import annotations

import pytest
import torch
from diffusers import DDPMScheduler
from diffusers.training_utils import compute_snr

from gendataagent.core.errors import ModelError
from gendataagent.generation.adaptation.lora_loss import (
    adaptation_loss,
    snr_weights,
    target,
)


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("epsilon", [5 / 10, 5 / 6, 1, 1, 1]),
        ("v_prediction", [5 / 11, 5 / 7, 4 / 5, 1 / 2, 0]),
    ],
)
def test_weights_by_hand(kind: str, expected: list[float]) -> None:
    weights = snr_weights(torch.tensor([10.0, 6.0, 4.0, 1.0, 0.0]), 5.0, kind)
    torch.testing.assert_close(weights, torch.tensor(expected))


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction"])
def test_gamma_0_gives_every_timestep_weight_1(kind: str) -> None:
    assert snr_weights(torch.tensor([10.0, 0.0]), 0.0, kind).tolist() == [1.0, 1.0]


def test_another_prediction_type_is_refused_by_name() -> None:
    with pytest.raises(ModelError, match="'sample'"):
        snr_weights(torch.ones(1), 5.0, "sample")


def scalars(*values: float) -> torch.Tensor:
    return torch.tensor(values).view(-1, 1, 1, 1)


def test_loss_by_hand() -> None:
    predicted, wanted, weights = scalars(1, 3), scalars(0, 1), torch.tensor([1.0, 0.5])
    # mean(1 * 1, 0.5 * 4) = 1.5; sums 1 + 1.5 and 0 + 0.5: their difference 2, squared 4
    assert adaptation_loss(predicted, wanted, weights, 0.0).item() == pytest.approx(1.5)
    assert adaptation_loss(predicted, wanted, weights, 0.003).item() == pytest.approx(1.512)


def test_the_matching_term_equals_its_formula_and_ignores_errors_that_cancel() -> None:
    generator = torch.Generator().manual_seed(0)
    predicted, wanted = torch.randn(2, 3, 4, 2, 2, generator=generator)
    weights = torch.tensor([0.3, 1.0, 0.7])
    by_loop = 0.0
    for position in range(4 * 2 * 2):
        total = 0.0
        for i in range(3):
            error = predicted[i].flatten()[position] - wanted[i].flatten()[position]
            total += float(weights[i] * error)
        by_loop += total**2 / 16
    term = adaptation_loss(predicted, wanted, weights, 1.0) - adaptation_loss(
        predicted, wanted, weights, 0.0
    )
    assert term.item() == pytest.approx(by_loop, rel=1e-5)
    cancelling = adaptation_loss(scalars(1, -1), scalars(0, 0), torch.ones(2), 7.0)
    assert cancelling.item() == pytest.approx(1.0)


def test_half_precision_predictions_are_compared_in_single_precision() -> None:
    loss = adaptation_loss(scalars(300).half(), scalars(0).half(), torch.ones(1), 0.0)
    assert loss.item() == 90000.0  # beyond what fp16 can hold


def test_the_target_is_the_noise_or_v() -> None:
    generator = torch.Generator().manual_seed(0)
    latents, noise = torch.randn(2, 3, 4, 8, 8, generator=generator)
    timesteps = torch.tensor([0, 500, 999])
    schedule = DDPMScheduler(beta_schedule="scaled_linear", beta_end=0.012)
    assert target(schedule, latents, noise, timesteps) is noise
    schedule.register_to_config(prediction_type="v_prediction")
    alphas = schedule.alphas_cumprod[timesteps].view(-1, 1, 1, 1)
    expected = alphas.sqrt() * noise - (1 - alphas).sqrt() * latents
    assert torch.equal(target(schedule, latents, noise, timesteps), expected)


def test_zero_terminal_snr_has_finite_weights() -> None:
    schedule = DDPMScheduler(rescale_betas_zero_snr=True)
    snr = compute_snr(schedule, torch.tensor([0, 999]))
    assert snr_weights(snr, 5.0, "epsilon")[1] == 1
    assert snr_weights(snr, 5.0, "v_prediction")[1] < 1e-4
