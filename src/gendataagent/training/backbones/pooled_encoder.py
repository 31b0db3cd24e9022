"""An image encoder of CLIP or SigLIP with a linear classification head.

This file is copied next to the saved weights and loaded from there by transformers with
`trust_remote_code=True`, so it imports nothing but torch and transformers.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from transformers import AutoModel, CLIPVisionConfig, PreTrainedModel, SiglipVisionConfig
from transformers.modeling_outputs import ImageClassifierOutput


class PooledEncoder(PreTrainedModel):  # type: ignore[misc]
    """Linear classification of an encoder's pooled output.

    The head sees the pooled output that the encoder's training compared with texts, before the
    projection into their common space, as the CLIP paper's linear probes do (Radford et al. 2021,
    appendix A). CLIPForImageClassification and SiglipForImageClassification of transformers average
    patch tokens instead, which that training never used. At other sizes than the encoder's own its
    position embeddings are interpolated.
    """

    main_input_name = "pixel_values"
    input_modalities = ("image",)
    _supports_sdpa = True  # the encoder decides how attention is computed
    _supports_flash_attn = True

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self.num_labels = config.num_labels
        self.encoder = AutoModel.from_config(config)
        self.head = nn.Linear(config.hidden_size, config.num_labels)
        self.post_init()

    def forward(
        self, pixel_values: torch.Tensor, labels: torch.Tensor | None = None, **_: Any
    ) -> ImageClassifierOutput:
        """Return logits [B, C] of normalised images [B, 3, S, S], and the loss if given labels."""
        resized = pixel_values.shape[-1] != self.config.image_size
        pooled_BD = self.encoder(pixel_values, interpolate_pos_encoding=resized).pooler_output
        logits_BC = self.head(pooled_BD)
        loss = None if labels is None else nn.functional.cross_entropy(logits_BC, labels)
        return ImageClassifierOutput(loss=loss, logits=logits_BC)


class CLIPPooledForImageClassification(PooledEncoder):
    """The image encoder of a CLIP with a head."""

    config_class = CLIPVisionConfig


class SiglipPooledForImageClassification(PooledEncoder):
    """The image encoder of a SigLIP with a head."""

    config_class = SiglipVisionConfig


def class_for(config: Any) -> type[PooledEncoder]:
    """Return the class for an encoder's configuration."""
    if isinstance(config, SiglipVisionConfig):
        return SiglipPooledForImageClassification
    return CLIPPooledForImageClassification
