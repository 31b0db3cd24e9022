"""A real Stable Diffusion, only minimal: built from configs, random seeded weights, saved to disk.

Every class is the one a user's model has, so that the true `from_pretrained` path runs. It draws
coloured noise of 32 px in a few milliseconds an image.
"""

from __future__ import annotations

import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

SIZE_PX = 32  # latents of 8 px, enlarged four times by the autoencoder
_TEXT_WIDTH = 16
_START, _END = "<|startoftext|>", "<|endoftext|>"


def save_tiny_pipeline(folder: Path, *, seed: int = 0) -> Path:
    """Save a `StableDiffusionImg2ImgPipeline` of about 100,000 weights to `folder`; return it."""
    from diffusers import DDIMScheduler, StableDiffusionImg2ImgPipeline

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        vae, unet, text_encoder = _autoencoder(), _unet(), _text_encoder()
    pipeline = StableDiffusionImg2ImgPipeline(
        vae=vae,
        unet=unet,
        text_encoder=text_encoder,
        tokenizer=_tokenizer(),
        scheduler=DDIMScheduler(steps_offset=1, clip_sample=False),  # as in SD 1.5
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.save_pretrained(folder)
    return folder


def _autoencoder() -> Any:
    from diffusers import AutoencoderTiny

    autoencoder = AutoencoderTiny(
        encoder_block_out_channels=(8, 8, 8),
        decoder_block_out_channels=(8, 8, 8),
        num_encoder_blocks=(1, 1, 1),
        num_decoder_blocks=(1, 1, 1),
        latent_channels=4,
    )
    # Random weights draw around 0, where half of all values would be cut off as black.
    torch.nn.init.constant_(autoencoder.decoder.layers[-1].bias, 0.5)
    return autoencoder


def _unet() -> Any:
    from diffusers import UNet2DConditionModel

    return UNet2DConditionModel(
        sample_size=SIZE_PX // 4,
        block_out_channels=(16, 32),
        layers_per_block=1,
        norm_num_groups=8,
        attention_head_dim=2,
        cross_attention_dim=_TEXT_WIDTH,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
    )


def _text_encoder() -> Any:
    from transformers import CLIPTextConfig, CLIPTextModel

    vocabulary = _byte_vocabulary()
    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(vocabulary),
            hidden_size=_TEXT_WIDTH,
            intermediate_size=32,
            num_hidden_layers=1,
            num_attention_heads=2,
            max_position_embeddings=77,
            bos_token_id=vocabulary[_START],
            eos_token_id=vocabulary[_END],
        )
    )


def _tokenizer() -> Any:
    from transformers import CLIPTokenizer

    with TemporaryDirectory() as folder:
        vocabulary, merges = Path(folder, "vocab.json"), Path(folder, "merges.txt")
        vocabulary.write_text(json.dumps(_byte_vocabulary()), encoding="utf-8")
        merges.write_text("#version: 0.2\n", encoding="utf-8")
        return CLIPTokenizer(str(vocabulary), str(merges), model_max_length=77)


def _byte_vocabulary() -> dict[str, int]:
    """Return one token per byte, alone and at the end of a word, in CLIP's printable alphabet."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printable]
    alphabet = [chr(byte) for byte in printable]
    alphabet += [chr(256 + position) for position in range(len(others))]
    tokens = [*alphabet, *(f"{letter}</w>" for letter in alphabet), _START, _END]
    return {token: number for number, token in enumerate(tokens)}
