"""The loss of the adaptation: min-SNR weights and Real-Fake's distribution-matching term.

Letters in tensor names: T steps of the noise schedule, B images of a batch, C latent channels,
S side of a latent.
"""

from __future__ import annotations

import torch
from torch import Tensor

from gendataagent.core.errors import ModelError

EPSILON, V_PREDICTION = "epsilon", "v_prediction"


def snr(alphas_cumprod_T: Tensor, timesteps_B: Tensor) -> Tensor:
    """Return the signal-to-noise ratio alpha^2 / sigma^2 at each timestep, [B]."""
    alphas_B = alphas_cumprod_T.to(timesteps_B.device)[timesteps_B].float()
    return alphas_B / (1 - alphas_B)


def snr_weights(snr_B: Tensor, gamma: float, prediction_type: str) -> Tensor:
    """Return the loss weight w of each timestep, [B]; all 1 for `gamma` = 0.

    Noise prediction: min(SNR, gamma) / SNR, v-prediction: min(SNR, gamma) / (SNR + 1); both weigh
    the error of the clean image by min(SNR, gamma) (Hang et al., ICCV 2023, as in the training
    scripts of diffusers). At SNR = 0 the first one is taken in the limit, 1.

    Raises:
        ModelError: the model predicts something else.
    """
    if prediction_type not in (EPSILON, V_PREDICTION):
        raise ModelError(
            f"generation.generator: its scheduler says that it predicts {prediction_type!r}; "
            f"adaptation knows {EPSILON} and {V_PREDICTION}; name a Stable Diffusion 1, 2 or XL"
        )
    if gamma == 0:
        return torch.ones_like(snr_B)
    if prediction_type == V_PREDICTION:
        return snr_B.clamp(max=gamma) / (snr_B + 1)
    return torch.where(snr_B > 0, snr_B.clamp(max=gamma) / snr_B, 1.0)


def target(
    latents_BCSS: Tensor, noise_BCSS: Tensor, alphas_cumprod_T: Tensor, timesteps_B: Tensor,
    prediction_type: str,
) -> Tensor:  # fmt: skip
    """Return what the UNet should answer, [B, C, S, S]: the noise, or v (Salimans and Ho, 2022)."""
    if prediction_type == EPSILON:
        return noise_BCSS
    alpha_B, sigma_B = _signal_and_noise(alphas_cumprod_T, timesteps_B)
    return alpha_B * noise_BCSS - sigma_B * latents_BCSS


def noised(
    latents_BCSS: Tensor, noise_BCSS: Tensor, alphas_cumprod_T: Tensor, timesteps_B: Tensor
) -> Tensor:
    """Return the latents with the noise of their timesteps on them, [B, C, S, S]."""
    alpha_B, sigma_B = _signal_and_noise(alphas_cumprod_T, timesteps_B)
    return alpha_B * latents_BCSS + sigma_B * noise_BCSS


def adaptation_loss(
    predicted_BCSS: Tensor, target_BCSS: Tensor, weights_B: Tensor, mmd_weight: float
) -> Tensor:
    """Return mean_i w_i MSE(p_i, t_i) + mmd_weight * MSE(sum_i w_i p_i, sum_i w_i t_i), a scalar.

    p is what the UNet predicts, t what it should. The second term is the surrogate of Real-Fake's
    code (Yuan et al., ICLR 2024) for the maximum mean discrepancy between the batch and the model:
    errors that point the same way all over the batch cost more than those that cancel out. It is a
    sum, so it grows with the batch; of one image it is no more than w^2 MSE(p, t).
    """
    predicted_BCSS, target_BCSS = predicted_BCSS.float(), target_BCSS.float()
    each_B = (predicted_BCSS - target_BCSS).square().mean(dim=(1, 2, 3))
    loss = (weights_B * each_B).mean()
    if mmd_weight == 0:
        return loss
    weights_B111 = weights_B.view(-1, 1, 1, 1)
    apart_CSS = (weights_B111 * predicted_BCSS).sum(0) - (weights_B111 * target_BCSS).sum(0)
    return loss + mmd_weight * apart_CSS.square().mean()


def _signal_and_noise(alphas_cumprod_T: Tensor, timesteps_B: Tensor) -> tuple[Tensor, Tensor]:
    """Return alpha and sigma of each timestep, [B, 1, 1, 1] each."""
    alphas_B = alphas_cumprod_T.to(timesteps_B.device)[timesteps_B].float().view(-1, 1, 1, 1)
    return alphas_B.sqrt(), (1 - alphas_B).sqrt()
