"""The loss of the adaptation: min-SNR weights and Real-Fake's distribution-matching term.

Letters in tensor names: B images of a batch, C latent channels, S side of a latent.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from gendataagent.core.errors import ModelError

EPSILON, V_PREDICTION = "epsilon", "v_prediction"


def snr_weights(snr_B: Tensor, gamma: float, prediction_type: str) -> Tensor:
    """Return the loss weight of each timestep, [B]; all 1 for `gamma` = 0.

    Noise prediction: min(SNR, gamma) / SNR, v-prediction: min(SNR, gamma) / (SNR + 1); both weight
    the error of the clean image by min(SNR, gamma) (Hang et al., ICCV 2023, as in the training
    scripts of diffusers). At SNR = 0 the first one takes its limit, 1.

    Args:
        snr_B: signal-to-noise ratio alpha^2 / sigma^2, as diffusers' `compute_snr` returns it.

    Raises:
        ModelError: another prediction type.
    """
    if prediction_type not in (EPSILON, V_PREDICTION):
        raise ModelError(
            f"generation.generator: its scheduler has prediction_type={prediction_type!r}; "
            f"adaptation needs {EPSILON} or {V_PREDICTION}; name a Stable Diffusion 1, 2 or XL"
        )
    if gamma == 0:
        return torch.ones_like(snr_B)
    if prediction_type == V_PREDICTION:
        return snr_B.clamp(max=gamma) / (snr_B + 1)
    return torch.where(snr_B > 0, snr_B.clamp(max=gamma) / snr_B, 1.0)


def target(schedule: Any, latents_BCSS: Tensor, noise_BCSS: Tensor, timesteps_B: Tensor) -> Tensor:
    """Return what the UNet should predict, [B, C, S, S]: the noise, or v (Salimans and Ho, 2022).

    Args:
        schedule: `DDPMScheduler` of the model.
    """
    if schedule.config.prediction_type == EPSILON:
        return noise_BCSS
    velocity_BCSS: Tensor = schedule.get_velocity(latents_BCSS, noise_BCSS, timesteps_B)
    return velocity_BCSS


def adaptation_loss(
    predicted_BCSS: Tensor, target_BCSS: Tensor, weights_B: Tensor, mmd_weight: float
) -> Tensor:
    """Return mean_i w_i MSE(p_i, t_i) + mmd_weight * MSE(sum_i w_i p_i, sum_i w_i t_i), a scalar.

    p is the UNet's prediction, t its target, w the weights. The second term is the surrogate in
    Real-Fake's code (Yuan et al., ICLR 2024) for the maximum mean discrepancy between batch and
    model: errors in the same direction across the batch cost more than errors that cancel. It is a
    sum, so it grows with the batch; for one image it is only w^2 MSE(p, t).
    """
    predicted_BCSS, target_BCSS = predicted_BCSS.float(), target_BCSS.float()
    each_B = (predicted_BCSS - target_BCSS).square().mean(dim=(1, 2, 3))
    loss = (weights_B * each_B).mean()
    if mmd_weight == 0:
        return loss
    weights_B111 = weights_B.view(-1, 1, 1, 1)
    difference_CSS = (weights_B111 * predicted_BCSS).sum(0) - (weights_B111 * target_BCSS).sum(0)
    return loss + mmd_weight * difference_CSS.square().mean()
