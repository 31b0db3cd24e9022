"""Whether a pipeline and images can be trained on, before any slow step."""

from __future__ import annotations

from typing import Any

import torch

from gendataagent.config import AdaptationConfig
from gendataagent.core.errors import ConfigError, DataError, ModelError
from gendataagent.core.text import counted
from gendataagent.data.pixels import ImageSet
from gendataagent.generation.adaptation.batches import MIN_IMAGES
from gendataagent.generation.adaptation.lora_layers import check_adaptable
from gendataagent.generation.adaptation.lora_loss import snr_weights
from gendataagent.generation.diffusion.token_embeddings import check_takes_tokens


def check_trainable(
    pipeline: Any, images: ImageSet, config: AdaptationConfig, *, size_px: int
) -> None:
    """Raise what `AdaptationTrainer` would raise, before any slow step."""
    check_adaptable(pipeline)
    if config.trains_tokens:
        check_takes_tokens(pipeline)
    training_schedule(pipeline)
    factor = int(pipeline.vae_scale_factor)
    least = MIN_IMAGES if config.mmd_weight > 0 else 1
    if len(images) < least:
        raise DataError(
            f"adaptation needs at least {counted(least, 'image', 'images')}, got {len(images)}"
        )
    if config.batch_size < MIN_IMAGES and config.mmd_weight > 0:
        raise ConfigError(
            "adaptation.batch_size must be at least 2 for the distribution-matching term, got "
            f"{config.batch_size}; raise it, or set adaptation.mmd_weight=0"
        )
    if size_px <= 0 or size_px % factor:
        raise ConfigError(
            f"adaptation.size_px must be a multiple of {factor} for this generator, got {size_px}"
        )


def training_schedule(pipeline: Any) -> Any:
    """Return the noise schedule of the model; raise `ModelError` if the loss does not fit it."""
    from diffusers import DDPMScheduler

    config = pipeline.scheduler.config
    if config.get("use_flow_sigmas") or config.get("prediction_type") == "flow_prediction":
        raise ModelError(
            "generation.generator: a flow-matching model cannot be adapted by this loss; name a "
            "Stable Diffusion 1, 2 or XL"
        )
    schedule = DDPMScheduler.from_config(config)
    snr_weights(torch.ones(1), 0, schedule.config.prediction_type)  # raises for an unknown type
    return schedule
