"""Which scheduler a pipeline draws with: one by name, or the default where it suits the model."""

from __future__ import annotations

from typing import Any

from gendataagent.config import AUTO
from gendataagent.core.errors import ModelError

DEFAULT = "UniPCMultistepScheduler"  # Real-Fake's code [C]
SPACINGS = ("leading", "trailing", "linspace")
# Samplers that a model was distilled for; any other makes noise of its few steps.
_OF_DISTILLED = frozenset({"LCMScheduler", "TCDScheduler"})
_EXAMPLES = "UniPCMultistepScheduler, DPMSolverMultistepScheduler, DDIMScheduler, LCMScheduler"


def choose_scheduler(name: str, own: Any) -> Any:
    """Return the scheduler a setting stands for, with the noise schedule of the model's own.

    `name` is a class of diffusers, after a colon the spacing of its steps where the model wants
    another than its own ("DDIMScheduler:trailing", as the Hyper-SD LoRAs do). auto is
    `UniPCMultistepScheduler`, except for models that no other sampler than their own suits: those
    of flow matching (SD3, Flux), distilled ones (LCM, TCD), Turbo models (Euler with trailing
    steps), EDM ones, and what diffusers does not list as exchangeable with it.

    Raises:
        ModelError: there is no such scheduler, or not for such a model or an image-to-image start.
    """
    import diffusers

    if name == AUTO:
        if not _is_exchangeable(own):
            return own
        name = DEFAULT
    wanted, _, spacing = name.partition(":")
    cls = getattr(diffusers, wanted, None)
    if cls is None or not wanted.endswith("Scheduler"):
        raise ModelError(
            f"generation.scheduler: diffusers has no scheduler {wanted!r}; for example {_EXAMPLES}"
        )
    if _is_of_flow_matching(wanted) != _is_of_flow_matching(type(own).__name__):
        raise ModelError(
            f"generation.scheduler: {wanted} cannot take the place of this model's "
            f"{type(own).__name__}, one of the two is for flow matching; use auto"
        )
    if not (hasattr(cls, "add_noise") or hasattr(cls, "scale_noise")):
        raise ModelError(
            f"generation.scheduler: {wanted} cannot start from a image; for example {_EXAMPLES}"
        )
    if not spacing:
        return cls.from_config(own.config)
    scheduler = cls.from_config(own.config, timestep_spacing=spacing)
    if spacing not in SPACINGS or scheduler.config.get("timestep_spacing") != spacing:
        raise ModelError(
            f"generation.scheduler: {wanted} has no step spacing {spacing!r}; leave it out, or "
            f"choose one of {', '.join(SPACINGS)}"
        )
    return scheduler


def _is_exchangeable(own: Any) -> bool:
    name = type(own).__name__
    of_turbo = name.startswith("Euler") and own.config.get("timestep_spacing") == "trailing"
    of_flow = _is_of_flow_matching(name) or own.config.get("use_flow_sigmas")
    if name in _OF_DISTILLED or name.startswith("EDM") or of_turbo or of_flow:
        return False
    return name == DEFAULT or DEFAULT in {cls.__name__ for cls in own.compatibles}


def _is_of_flow_matching(name: str) -> bool:
    return name.startswith("FlowMatch")
