"""A minimal SDXL: two text encoders, a KL autoencoder, sizes as further conditioning."""

from __future__ import annotations

from pathlib import Path

import torch

from tests.tiny_models import _byte_vocabulary, _tokenizer


def save_tiny_sdxl(folder: Path) -> Path:
    """Save a `StableDiffusionXLImg2ImgPipeline` with random weights to `folder`; return it."""
    from diffusers import (
        AutoencoderKL,
        EulerDiscreteScheduler,
        StableDiffusionXLImg2ImgPipeline,
        UNet2DConditionModel,
    )
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    vocabulary = _byte_vocabulary()
    text = CLIPTextConfig(
        vocab_size=len(vocabulary), hidden_size=16, intermediate_size=16, num_hidden_layers=2,
        num_attention_heads=2, max_position_embeddings=77, projection_dim=16,
        bos_token_id=vocabulary["<|startoftext|>"], eos_token_id=vocabulary["<|endoftext|>"],
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        pipeline = StableDiffusionXLImg2ImgPipeline(
            vae=AutoencoderKL(
                block_out_channels=(8, 8), norm_num_groups=4, layers_per_block=1,
                down_block_types=("DownEncoderBlock2D",) * 2,
                up_block_types=("UpDecoderBlock2D",) * 2, latent_channels=4,
            ),
            unet=UNet2DConditionModel(
                sample_size=16, block_out_channels=(16, 32), layers_per_block=1, norm_num_groups=8,
                attention_head_dim=2, cross_attention_dim=32, use_linear_projection=True,
                down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
                up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
                addition_embed_type="text_time", addition_time_embed_dim=8,
                projection_class_embeddings_input_dim=8 * 6 + 16,
            ),
            text_encoder=CLIPTextModel(text),
            text_encoder_2=CLIPTextModelWithProjection(text),
            tokenizer=_tokenizer(),
            tokenizer_2=_tokenizer(),
            scheduler=EulerDiscreteScheduler(),
        )  # fmt: skip
    pipeline.save_pretrained(folder)
    return folder
