"""The clean latent that a denoising step predicts, for every scheduler that can be steered.

At each step the denoiser's output o and the noisy latent z predict the clean latent x0 = a z + b o.
a and b follow from the scheduler's noise level and from what the model predicts (noise, velocity,
sample or flow). So x0 moves by d exactly if the output moves by d / b.
"""

from __future__ import annotations

from typing import Any

from gendataagent.core.errors import ModelError

# Each has alphas_cumprod by timestep: z = alpha x0 + sigma noise.
_BY_TIMESTEP = ("DDIMScheduler", "DDPMScheduler", "LCMScheduler", "TCDScheduler")
# Each has sigmas by step and `_sigma_to_alpha_sigma_t`: z as above.
_MULTISTEP = (
    "UniPCMultistepScheduler",
    "DPMSolverMultistepScheduler",
    "DPMSolverSinglestepScheduler",
    "DEISMultistepScheduler",
)
# z = x0 + sigma noise.
_BY_SIGMA = ("EulerDiscreteScheduler", "EulerAncestralDiscreteScheduler", "LMSDiscreteScheduler")
# z = (1 - sigma) x0 + sigma noise.
_FLOW = ("FlowMatchEulerDiscreteScheduler",)
STEERABLE = (*_MULTISTEP, *_BY_TIMESTEP, *_BY_SIGMA, *_FLOW)


def check_scheduler(class_name: str) -> None:
    """Raise `ModelError` if feedback cannot steer a scheduler of this class."""
    if class_name not in STEERABLE:
        raise ModelError(
            f"generation.feedback cannot steer {class_name}; set generation.scheduler to one of "
            f"{', '.join(STEERABLE)}, or generation.feedback=none"
        )


def clean_latent_weights(scheduler: Any, timestep: Any) -> tuple[float, float]:
    """Return (a, b) of x0 = a z + b o at the step that `scheduler.step` is about to take.

    Raises:
        ModelError: a scheduler or a kind of prediction that is not supported.
    """
    name = type(scheduler).__name__
    check_scheduler(name)
    if name in _BY_TIMESTEP:
        alpha_bar = float(scheduler.alphas_cumprod[int(timestep)])
        return _weights(scheduler, alpha_bar**0.5, (1 - alpha_bar) ** 0.5)
    if scheduler.step_index is None:
        scheduler._init_step_index(timestep)  # `step` does the same
    sigma = float(scheduler.sigmas[scheduler.step_index])
    if name in _FLOW:
        return 1.0, -sigma
    if name in _MULTISTEP:
        alpha_t, sigma_t = scheduler._sigma_to_alpha_sigma_t(scheduler.sigmas[scheduler.step_index])
        return _weights(scheduler, float(alpha_t), float(sigma_t))
    # z / sqrt(1 + sigma^2) has the form alpha x0 + sigma noise, so its weights carry over.
    scale = (1 + sigma**2) ** 0.5
    of_latent, of_output = _weights(scheduler, 1 / scale, sigma / scale)
    return of_latent / scale, of_output


def _weights(scheduler: Any, alpha: float, sigma: float) -> tuple[float, float]:
    """Return (a, b) where z = alpha x0 + sigma noise."""
    kind = scheduler.config.get("prediction_type", "epsilon")
    if kind == "epsilon":
        return 1 / alpha, -sigma / alpha
    if kind == "v_prediction":
        return alpha, -sigma
    if kind == "sample":
        return 0.0, 1.0
    if kind == "flow_prediction":
        return 1.0, -sigma
    raise ModelError(
        f"generation.feedback cannot steer a model that predicts {kind!r}; only epsilon, "
        "v_prediction, sample and flow_prediction; set generation.feedback=none"
    )
