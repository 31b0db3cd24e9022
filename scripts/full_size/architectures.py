"""The paper's models as architectures: exact configs, random weights, at full size or tiny.

A machine without a model hub can so run the paper's path at its true size. `FULL` holds the
published configurations (Stable Diffusion 1.5, BLIP-2 with OPT-2.7b, Llama-2-7b); `TINY` the same
classes with few and narrow layers. Tokenizers are byte-level and made here: a random model does not
care what its tokens mean.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

IMAGE_TOKEN = "<image>"
_START, _END, _PAD = "<|startoftext|>", "<|endoftext|>", "<pad>"
LLAMA_CHAT = (
    "{% for message in messages %}{% if message['role'] == 'user' %}[INST] {{ message['content'] }}"
    " [/INST]{% else %}{{ message['content'] }}{% endif %}{% endfor %}"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """Constructor arguments of every part, and the sizes in px that belong to them."""

    unet: dict[str, Any]
    vae: dict[str, Any]
    clip_text: dict[str, Any]
    blip2_vision: dict[str, Any]
    blip2_qformer: dict[str, Any]
    blip2_text: dict[str, Any]
    llama: dict[str, Any]
    resnet: dict[str, Any]
    generator_px: int
    captioner_px: int
    classifier_px: int


FULL = Scale(
    unet={"sample_size": 64, "cross_attention_dim": 768},  # the other defaults are SD 1.5's
    vae={
        "sample_size": 512,
        "block_out_channels": (128, 256, 512, 512),
        "down_block_types": ("DownEncoderBlock2D",) * 4,
        "up_block_types": ("UpDecoderBlock2D",) * 4,
        "layers_per_block": 2,
        "latent_channels": 4,
    },
    clip_text={
        "vocab_size": 49408, "hidden_size": 768, "intermediate_size": 3072,
        "num_hidden_layers": 12, "num_attention_heads": 12, "max_position_embeddings": 77,
    },
    blip2_vision={},  # the defaults are EVA-CLIP g/14 at 224 px, as published
    blip2_qformer={"encoder_hidden_size": 1408},
    blip2_text={
        "vocab_size": 50304, "hidden_size": 2560, "ffn_dim": 10240, "num_hidden_layers": 32,
        "num_attention_heads": 32, "word_embed_proj_dim": 2560, "max_position_embeddings": 2048,
    },
    llama={},  # the defaults are Llama-2-7b's
    resnet={},  # the defaults are ResNet-50's
    generator_px=512,
    captioner_px=224,
    classifier_px=224,
)  # fmt: skip

TINY = Scale(
    unet={
        "sample_size": 4, "cross_attention_dim": 16, "block_out_channels": (16, 32),
        "layers_per_block": 1, "norm_num_groups": 8, "attention_head_dim": 2,
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
    },
    vae={
        "sample_size": 32, "block_out_channels": (8, 8, 8, 8), "norm_num_groups": 4,
        "down_block_types": ("DownEncoderBlock2D",) * 4,
        "up_block_types": ("UpDecoderBlock2D",) * 4,
        "layers_per_block": 1, "latent_channels": 4,
    },
    clip_text={
        "vocab_size": 600, "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1,
        "num_attention_heads": 2, "max_position_embeddings": 77,
    },
    blip2_vision={
        "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1,
        "num_attention_heads": 2, "image_size": 28, "patch_size": 14,
    },
    blip2_qformer={
        "vocab_size": 600, "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2,
        "num_attention_heads": 2, "encoder_hidden_size": 16,
    },
    blip2_text={
        "vocab_size": 600, "hidden_size": 16, "ffn_dim": 32, "num_hidden_layers": 1,
        "num_attention_heads": 2, "word_embed_proj_dim": 16, "max_position_embeddings": 512,
    },
    llama={
        "vocab_size": 600, "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1,
        "num_attention_heads": 2, "num_key_value_heads": 2, "max_position_embeddings": 4096,
    },
    resnet={
        "embedding_size": 8, "hidden_sizes": [8, 16], "depths": [1, 1], "layer_type": "basic",
    },
    generator_px=32,
    captioner_px=28,
    classifier_px=32,
)  # fmt: skip

SCALES = {"full": FULL, "tiny": TINY}


def unet(scale: Scale) -> Any:
    """Return the denoiser of Stable Diffusion 1.5: 859.5 million weights at full size."""
    from diffusers import UNet2DConditionModel

    return UNet2DConditionModel(**scale.unet)


def autoencoder(scale: Scale) -> Any:
    """Return the image autoencoder of Stable Diffusion 1.5."""
    from diffusers import AutoencoderKL

    return AutoencoderKL(**scale.vae)


def clip_text_encoder(scale: Scale) -> Any:
    """Return the text half of CLIP ViT-L/14."""
    from transformers import CLIPTextConfig, CLIPTextModel

    vocabulary = byte_vocabulary()
    return CLIPTextModel(
        CLIPTextConfig(
            **scale.clip_text, bos_token_id=vocabulary[_START], eos_token_id=vocabulary[_END]
        )
    )


def blip2(scale: Scale) -> Any:
    """Return BLIP-2 with OPT: vision tower, Q-Former, language model."""
    from transformers import Blip2Config, Blip2ForConditionalGeneration

    vocabulary = byte_vocabulary()
    specials = {
        "bos_token_id": vocabulary[_START], "eos_token_id": vocabulary[_END],
        "pad_token_id": vocabulary[_PAD],
    }  # fmt: skip
    config = Blip2Config(
        vision_config=scale.blip2_vision,
        qformer_config=scale.blip2_qformer,
        text_config={"model_type": "opt", **scale.blip2_text, **specials},
        num_query_tokens=32,
        image_token_index=vocabulary[IMAGE_TOKEN],
    )
    return Blip2ForConditionalGeneration(config)


def llama(scale: Scale) -> Any:
    """Return the architecture of Llama-2-7b."""
    from transformers import LlamaConfig, LlamaForCausalLM

    vocabulary = byte_vocabulary()
    config = LlamaConfig(
        **scale.llama,
        bos_token_id=vocabulary[_START],
        eos_token_id=vocabulary[_END],
        pad_token_id=vocabulary[_PAD],
    )
    return LlamaForCausalLM(config)


def resnet(scale: Scale) -> Any:
    """Return the architecture of ResNet-50 with its 1,000 classes."""
    from transformers import ResNetConfig, ResNetForImageClassification

    return ResNetForImageClassification(ResNetConfig(**scale.resnet, num_labels=1000))


def vocabulary_of(size: int) -> dict[str, int]:
    """Return the tokens of `byte_vocabulary`, filled up to the size of a model's table."""
    known = byte_vocabulary()
    return known | {f"\u0120word{n}": n for n in range(len(known), size)}


def byte_vocabulary() -> dict[str, int]:
    """Return a token per byte, alone and at the end of a word, in CLIP's printable alphabet."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printable]
    alphabet = [chr(byte) for byte in printable] + [chr(256 + i) for i in range(len(others))]
    specials = [_START, _END, _PAD, IMAGE_TOKEN]
    tokens = [*alphabet, *(f"{letter}</w>" for letter in alphabet), *specials]
    return {token: number for number, token in enumerate(tokens)}


def save_diffusion(scale: Scale, folder: Path, *, device: str, dtype: torch.dtype) -> None:
    """Save a whole `StableDiffusionPipeline` of this scale with random weights."""
    from diffusers import PNDMScheduler, StableDiffusionPipeline
    from transformers import CLIPTokenizer

    with _created_on(device, dtype):
        parts = unet(scale), autoencoder(scale), clip_text_encoder(scale)
    vocabulary, merges = folder / "vocab.json", folder / "merges.txt"
    folder.mkdir(parents=True, exist_ok=True)
    words = vocabulary_of(scale.clip_text["vocab_size"])
    vocabulary.write_text(json.dumps(words), encoding="utf-8")
    merges.write_text("#version: 0.2\n", encoding="utf-8")
    tokenizer = CLIPTokenizer(str(vocabulary), str(merges), model_max_length=77)
    vocabulary.unlink()
    merges.unlink()
    pipeline = StableDiffusionPipeline(
        unet=parts[0],
        vae=parts[1],
        text_encoder=parts[2],
        tokenizer=tokenizer,
        scheduler=PNDMScheduler(  # as SD 1.5 is published
            beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", steps_offset=1,
            skip_prk_steps=True, set_alpha_to_one=False,
        ),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )  # fmt: skip
    pipeline.save_pretrained(folder)


def save_captioner(scale: Scale, folder: Path, *, device: str, dtype: torch.dtype) -> None:
    """Save BLIP-2 of this scale with its processor."""
    from transformers import Blip2Processor

    # The Pillow one by name: without torchvision the other warns and falls back to it.
    from transformers.models.blip.image_processing_pil_blip import BlipImageProcessorPil

    with _created_on(device, dtype):
        blip2(scale).save_pretrained(folder)
    side = {"height": scale.captioner_px, "width": scale.captioner_px}
    processor = Blip2Processor(
        BlipImageProcessorPil(size=side),
        _byte_tokenizer(scale.blip2_text["vocab_size"]),
        num_query_tokens=32,
    )
    processor.save_pretrained(folder)


def save_language_model(scale: Scale, folder: Path, *, device: str, dtype: torch.dtype) -> None:
    """Save Llama of this scale with a tokenizer that has a chat template."""
    with _created_on(device, dtype):
        llama(scale).save_pretrained(folder)
    tokenizer = _byte_tokenizer(scale.llama.get("vocab_size", 32_000))
    tokenizer.chat_template = LLAMA_CHAT
    tokenizer.save_pretrained(folder)


def save_classifier(scale: Scale, folder: Path, *, device: str, dtype: torch.dtype) -> None:
    """Save ResNet-50 of this scale with its image processor."""
    from transformers.models.convnext.image_processing_pil_convnext import (
        ConvNextImageProcessorPil,
    )

    with _created_on(device, dtype):
        resnet(scale).save_pretrained(folder)
    ConvNextImageProcessorPil(size={"shortest_edge": scale.classifier_px}).save_pretrained(folder)


def _byte_tokenizer(size: int) -> Any:
    """Return a tokenizer that reads bytes and can write `size` tokens."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE(vocab=vocabulary_of(size), merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token=_START, eos_token=_END, pad_token=_PAD,
        additional_special_tokens=[IMAGE_TOKEN], model_max_length=4096,
    )  # fmt: skip


class _created_on:  # noqa: N801 - used as a context, like torch.device
    """Makes new modules on one device in one dtype, so that no full copy in float32 is needed."""

    def __init__(self, device: str, dtype: torch.dtype) -> None:
        self._device, self._dtype = torch.device(device), dtype

    def __enter__(self) -> None:
        self._before = torch.get_default_dtype()
        torch.set_default_dtype(self._dtype)
        self._device.__enter__()

    def __exit__(self, *error: Any) -> None:
        self._device.__exit__(*error)
        torch.set_default_dtype(self._before)
