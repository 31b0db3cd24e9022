"""Whether feedback can steer a pipeline."""

from __future__ import annotations

from typing import Any

from gendataagent.core.errors import ModelError
from gendataagent.generation.feedback.clean_latent import check_scheduler

# They decode latents [B, C, h, w] to images; those of video models do not.
_AUTOENCODERS = ("AutoencoderKL", "AutoencoderTiny", "AsymmetricAutoencoderKL")


def check_steerable(scheduler: Any, vae: Any, model: str) -> None:
    """Raise `ModelError` if feedback cannot steer a pipeline of these parts.

    Args:
        model: its name, for the message.
    """
    check_scheduler(type(scheduler).__name__)
    if type(vae).__name__ not in _AUTOENCODERS:
        raise ModelError(
            f"generation.feedback cannot steer {model!r}: its autoencoder is {type(vae).__name__}, "
            f"and feedback decodes with one of {', '.join(_AUTOENCODERS)}; set "
            "generation.feedback=none, or name another generator"
        )
