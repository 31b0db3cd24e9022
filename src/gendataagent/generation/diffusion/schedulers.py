"""Choose the scheduler of a pipeline: by name, or the default where it suits the model."""

from __future__ import annotations

from typing import Any

from gendataagent.config import AUTO
from gendataagent.core.errors import ModelError
from gendataagent.core.text import reason_of

DEFAULT = "UniPCMultistepScheduler"  # Real-Fake's code [C]
SPACINGS = ("leading", "trailing", "linspace")
# Schedulers of distilled models, whose few steps give noise with any other scheduler.
_DISTILLED = frozenset({"LCMScheduler", "TCDScheduler"})
_EXAMPLES = "UniPCMultistepScheduler, DPMSolverMultistepScheduler, DDIMScheduler, LCMScheduler"


def choose_scheduler(name: str, own: Any) -> Any:
    """Return the scheduler that a setting names, with the noise schedule of the model.

    Args:
        name: a class of diffusers, optionally with a colon and a timestep spacing
            ("DDIMScheduler:trailing", for the Hyper-SD LoRAs); or auto: `UniPCMultistepScheduler`,
            but the model's own for flow matching (SD 3, Flux), distilled models (LCM, TCD), Turbo
            models (Euler with trailing steps), EDM models, and any that diffusers does not list as
            compatible.
        own: the model's own scheduler.

    Raises:
        ModelError: there is no such scheduler, or it suits neither the model nor image-to-image.
    """
    import diffusers

    if name == AUTO:
        if not _is_exchangeable(own):
            return own
        name = DEFAULT
    class_name, _, spacing = name.partition(":")
    cls = getattr(diffusers, class_name, None)
    if cls is None or not class_name.endswith("Scheduler"):
        raise ModelError(
            f"generation.scheduler: diffusers has no scheduler {class_name!r}; for example "
            f"{_EXAMPLES}"
        )
    if _is_flow_matching(class_name) != _is_flow_matching(type(own).__name__):
        raise ModelError(
            f"generation.scheduler: {class_name} cannot replace this model's "
            f"{type(own).__name__}: only one of the two is for flow matching; use auto"
        )
    changes: dict[str, Any] = {"timestep_spacing": spacing} if spacing else {}
    if class_name == "PNDMScheduler":  # else it begins with 12 passes of the network, at any number
        changes["skip_prk_steps"] = True
    try:
        is_for_images = hasattr(cls, "add_noise") or hasattr(cls, "scale_noise")
        scheduler = cls.from_config(own.config, **changes) if is_for_images else None
    except ImportError as error:  # diffusers has a stand-in for a class that needs another package
        raise ModelError(
            f"generation.scheduler: {class_name} needs a package that is not installed "
            f"({reason_of(error, 200)}); install it, or choose another, such as {_EXAMPLES}"
        ) from error
    if scheduler is None:
        raise ModelError(
            f"generation.scheduler: {class_name} cannot start from an image; for example "
            f"{_EXAMPLES}"
        )
    if not spacing:
        return scheduler
    if spacing not in SPACINGS or scheduler.config.get("timestep_spacing") != spacing:
        raise ModelError(
            f"generation.scheduler: {class_name} has no timestep spacing {spacing!r}; leave it "
            f"out, or choose one of {', '.join(SPACINGS)}"
        )
    return scheduler


def check_steps(scheduler: Any, steps: int) -> None:
    """Raise `ModelError` if a scheduler cannot take so many steps; 0 = not known, not checked.

    An LCM scheduler takes at most the 50 that its model was distilled from. Schedulers for flow
    matching take any number.
    """
    if not steps or _is_flow_matching(type(scheduler).__name__):
        return
    try:
        type(scheduler).from_config(scheduler.config).set_timesteps(steps)
    except ValueError as error:
        raise ModelError(
            f"generation.num_inference_steps: {type(scheduler).__name__} cannot take {steps} "
            f"({reason_of(error, 200)}); lower it, or use auto"
        ) from error


def _is_exchangeable(own: Any) -> bool:
    name = type(own).__name__
    is_turbo = name.startswith("Euler") and own.config.get("timestep_spacing") == "trailing"
    is_flow = _is_flow_matching(name) or own.config.get("use_flow_sigmas")
    if name in _DISTILLED or name.startswith("EDM") or is_turbo or is_flow:
        return False
    return name == DEFAULT or DEFAULT in {cls.__name__ for cls in own.compatibles}


def _is_flow_matching(name: str) -> bool:
    return name.startswith("FlowMatch")
