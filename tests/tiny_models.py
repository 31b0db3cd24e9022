"""Minimal diffusion models of real classes, with seeded random weights, saved to disk.

The classes are those of a user's model, so that the real `from_pretrained` code runs. They generate
coloured noise of 32 px in a few milliseconds per image.

    save_tiny_pipeline         Stable Diffusion 1 and 2, with a tiny autoencoder
    save_tiny_flagging_sd      the same with a KL autoencoder and a safety checker
    save_tiny_sdxl             Stable Diffusion XL: two text encoders
    save_tiny_lcm              a latent consistency model, in its own pipeline
    save_tiny_sd3              Stable Diffusion 3: a transformer, flow matching
    save_tiny_flux             Flux: a guidance-distilled transformer, flow matching
    save_tiny_lora             LoRA weights for the first, in diffusers' format
    save_tiny_controlnet       a ControlNet for the first, or for Stable Diffusion XL
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

SIZE_PX = 32  # latents of 8 px, enlarged four times by the autoencoder
_TEXT_WIDTH = 16
_START, _END = "<|startoftext|>", "<|endoftext|>"
_XL: dict[str, Any] = {
    "cross_attention_dim": 2 * _TEXT_WIDTH,
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 4,
    # six numbers on sizes and crops, and the pooled text
    "projection_class_embeddings_input_dim": 6 * 4 + _TEXT_WIDTH,
}


def save_tiny_pipeline(folder: Path, *, seed: int = 0) -> Path:
    """Save a `StableDiffusionImg2ImgPipeline` of about 100,000 weights to `folder`; return it."""
    from diffusers import DDIMScheduler, StableDiffusionImg2ImgPipeline

    with seeded(seed):
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


def save_tiny_flagging_sd(folder: Path, *, seed: int = 0, flags: float = 0.8) -> Path:
    """Save a Stable Diffusion whose safety checker has random concepts.

    Args:
        flags: threshold of the cosine to a concept: 0 flags all images, 0.8 most, 2 none.
    """
    from diffusers import PNDMScheduler, StableDiffusionPipeline

    with seeded(seed):
        pipeline = StableDiffusionPipeline(
            vae=_kl_autoencoder(),
            unet=_unet(),
            text_encoder=_text_encoder(),
            tokenizer=_tokenizer(),
            scheduler=PNDMScheduler(steps_offset=1, skip_prk_steps=True),  # as in SD 1.5
            safety_checker=_safety_checker(flags),
            feature_extractor=_image_processor(),
        )
    pipeline.save_pretrained(folder)
    return folder


def save_tiny_sdxl(folder: Path, *, seed: int = 0) -> Path:
    """Save a `StableDiffusionXLPipeline`: two text encoders, size conditions, a KL autoencoder."""
    from diffusers import EulerDiscreteScheduler, StableDiffusionXLPipeline

    with seeded(seed):
        pipeline = StableDiffusionXLPipeline(
            vae=_kl_autoencoder(),
            unet=_unet(**_XL),
            text_encoder=_text_encoder(),
            text_encoder_2=_text_encoder(projected=True),
            tokenizer=_tokenizer(),
            tokenizer_2=_tokenizer(),
            scheduler=EulerDiscreteScheduler(steps_offset=1, timestep_spacing="leading"),
        )
    pipeline.save_pretrained(folder)
    return folder


def save_tiny_lcm(folder: Path, *, seed: int = 0) -> Path:
    """Save a `LatentConsistencyModelPipeline`: guidance is an embedding, few steps are enough."""
    from diffusers import LatentConsistencyModelPipeline, LCMScheduler

    with seeded(seed):
        pipeline = LatentConsistencyModelPipeline(
            vae=_autoencoder(),
            unet=_unet(time_cond_proj_dim=8),
            text_encoder=_text_encoder(),
            tokenizer=_tokenizer(),
            scheduler=LCMScheduler(clip_sample=False),
            safety_checker=None,
            feature_extractor=None,
            requires_safety_checker=False,
        )
    pipeline.save_pretrained(folder)
    return folder


def save_tiny_sd3(folder: Path, *, seed: int = 0) -> Path:
    """Save a `StableDiffusion3Pipeline` with its three text encoders, two CLIP and a T5."""
    from diffusers import (
        FlowMatchEulerDiscreteScheduler,
        SD3Transformer2DModel,
        StableDiffusion3Pipeline,
    )

    with seeded(seed):
        transformer = SD3Transformer2DModel(
            sample_size=SIZE_PX // 4,
            patch_size=1,
            in_channels=4,
            num_layers=1,
            attention_head_dim=8,
            num_attention_heads=2,
            joint_attention_dim=2 * _TEXT_WIDTH,
            caption_projection_dim=16,
            pooled_projection_dim=2 * _TEXT_WIDTH,
            out_channels=4,
            pos_embed_max_size=16,
        )
        pipeline = StableDiffusion3Pipeline(
            vae=_kl_autoencoder(shift_factor=0.06),
            transformer=transformer,
            text_encoder=_text_encoder(projected=True),
            text_encoder_2=_text_encoder(projected=True),
            text_encoder_3=_t5_encoder(),
            tokenizer=_tokenizer(),
            tokenizer_2=_tokenizer(),
            tokenizer_3=_t5_tokenizer(),
            scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
        )
    pipeline.save_pretrained(folder)
    return folder


def save_tiny_flux(folder: Path, *, seed: int = 0) -> Path:
    """Save a `FluxPipeline` with its two text encoders, a CLIP and a T5."""
    from diffusers import FlowMatchEulerDiscreteScheduler, FluxPipeline, FluxTransformer2DModel

    with seeded(seed):
        transformer = FluxTransformer2DModel(
            patch_size=1,
            in_channels=16,
            num_layers=1,
            num_single_layers=1,
            attention_head_dim=16,
            num_attention_heads=2,
            joint_attention_dim=2 * _TEXT_WIDTH,
            pooled_projection_dim=_TEXT_WIDTH,
            guidance_embeds=True,
            axes_dims_rope=(4, 4, 8),
        )
        pipeline = FluxPipeline(
            vae=_kl_autoencoder(shift_factor=0.06),
            transformer=transformer,
            text_encoder=_text_encoder(),
            text_encoder_2=_t5_encoder(),
            tokenizer=_tokenizer(),
            tokenizer_2=_t5_tokenizer(),
            scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
        )
    pipeline.save_pretrained(folder)
    return folder


def save_tiny_lora(folder: Path, *, seed: int = 0, width: int = _TEXT_WIDTH) -> Path:
    """Save LoRA weights for the attention of `save_tiny_pipeline`'s UNet; return the file.

    Args:
        width: of the text embeddings; any but the UNet's own does not fit.
    """
    from diffusers import StableDiffusionPipeline
    from diffusers.utils import convert_state_dict_to_diffusers
    from peft import LoraConfig
    from peft.utils import get_peft_model_state_dict

    with seeded(seed):
        unet = _unet(cross_attention_dim=width)
        targets = ["to_q", "to_k", "to_v", "to_out.0"]
        unet.add_adapter(LoraConfig(r=2, lora_alpha=4, target_modules=targets))
        for name, parameter in unet.named_parameters():
            if "lora_B" in name:  # these start at zero
                torch.nn.init.normal_(parameter, std=1.0)
    layers = convert_state_dict_to_diffusers(get_peft_model_state_dict(unet))
    StableDiffusionPipeline.save_lora_weights(folder, unet_lora_layers=layers)
    return folder / "pytorch_lora_weights.safetensors"


def save_tiny_controlnet(folder: Path, *, seed: int = 0, xl: bool = False) -> Path:
    """Save a ControlNet for the UNet of `save_tiny_pipeline`, or of `save_tiny_sdxl`."""
    from diffusers import ControlNetModel

    with seeded(seed):
        unet = _unet(**(_XL if xl else {}))
        controlnet = ControlNetModel.from_unet(
            unet, conditioning_embedding_out_channels=(8, 8, 8), load_weights_from_unet=False
        )
        last = [
            *controlnet.controlnet_down_blocks, controlnet.controlnet_mid_block,
            controlnet.controlnet_cond_embedding.conv_out,
        ]  # fmt: skip
        for layer in last:  # these start at zero, where a ControlNet changes nothing
            torch.nn.init.normal_(layer.weight, std=0.3)
    controlnet.save_pretrained(folder)
    return folder


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed torch inside the block and restore its random state afterwards."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


def _autoencoder() -> Any:
    from diffusers import AutoencoderTiny

    autoencoder = AutoencoderTiny(
        encoder_block_out_channels=(8, 8, 8),
        decoder_block_out_channels=(8, 8, 8),
        num_encoder_blocks=(1, 1, 1),
        num_decoder_blocks=(1, 1, 1),
        latent_channels=4,
    )
    # With random weights the output is around 0, and half of all values would be clipped to black.
    torch.nn.init.constant_(autoencoder.decoder.layers[-1].bias, 0.5)
    return autoencoder


def _kl_autoencoder(**changes: Any) -> Any:
    from diffusers import AutoencoderKL

    autoencoder = AutoencoderKL(
        block_out_channels=(8, 8, 8),
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        norm_num_groups=4,
        latent_channels=4,
        sample_size=SIZE_PX,
        **changes,
    )
    torch.nn.init.constant_(autoencoder.decoder.conv_out.bias, 0.2)
    return autoencoder


def _unet(**changes: Any) -> Any:
    from diffusers import UNet2DConditionModel

    settings: dict[str, Any] = {
        "sample_size": SIZE_PX // 4,
        "block_out_channels": (16, 32),
        "layers_per_block": 1,
        "norm_num_groups": 8,
        "attention_head_dim": 2,
        "cross_attention_dim": _TEXT_WIDTH,
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
    }
    return UNet2DConditionModel(**settings | changes)


def _text_encoder(*, projected: bool = False) -> Any:
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    vocabulary = _byte_vocabulary()
    config = CLIPTextConfig(
        vocab_size=len(vocabulary),
        hidden_size=_TEXT_WIDTH,
        intermediate_size=32,
        num_hidden_layers=2 if projected else 1,
        num_attention_heads=2,
        max_position_embeddings=77,
        projection_dim=_TEXT_WIDTH,
        bos_token_id=vocabulary[_START],
        eos_token_id=vocabulary[_END],
    )
    return CLIPTextModelWithProjection(config) if projected else CLIPTextModel(config)


def _t5_encoder() -> Any:
    from transformers import T5Config, T5EncoderModel

    return T5EncoderModel(
        T5Config(
            vocab_size=len(_t5_vocabulary()),
            d_model=2 * _TEXT_WIDTH,
            d_kv=8,
            d_ff=32,
            num_layers=1,
            num_heads=2,
        )
    )


def _t5_tokenizer() -> Any:
    from transformers import T5Tokenizer

    return T5Tokenizer(vocab=_t5_vocabulary(), extra_ids=0, model_max_length=512)


def _t5_vocabulary() -> list[tuple[str, float]]:
    letters = ["▁", *map(chr, range(33, 127))]
    return [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), *((one, -2.0) for one in letters)]


def _safety_checker(flags: float) -> Any:
    from diffusers.pipelines.stable_diffusion.safety_checker import StableDiffusionSafetyChecker
    from transformers import CLIPConfig

    vision = {
        "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1,
        "num_attention_heads": 2, "image_size": SIZE_PX, "patch_size": 16, "projection_dim": 8,
    }  # fmt: skip
    text = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "vocab_size": 600}
    checker = StableDiffusionSafetyChecker(
        CLIPConfig(vision_config=vision, text_config=text, projection_dim=8)
    )
    for name, value in checker.named_parameters():
        if name == "concept_embeds":
            torch.nn.init.normal_(value)
        elif name == "concept_embeds_weights":
            torch.nn.init.constant_(value, flags)
        elif name == "special_care_embeds_weights":
            torch.nn.init.constant_(value, 2.0)  # no cosine reaches it
    return checker


def save_tiny_clip(folder: Path, *, seed: int = 0) -> Path:
    """Save an image-text encoder with random weights and its processor; return its folder."""
    from transformers import CLIPConfig, CLIPModel, CLIPProcessor

    tokenizer = _tokenizer()
    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1,
             "num_attention_heads": 2, "projection_dim": 8}  # fmt: skip
    config = CLIPConfig(
        vision_config={**sizes, "image_size": SIZE_PX, "patch_size": 16},
        text_config={**sizes, "vocab_size": len(tokenizer), "max_position_embeddings": 77,
                     "eos_token_id": tokenizer.eos_token_id},
        projection_dim=8,
    )  # fmt: skip
    with seeded(seed):
        model = CLIPModel(config)
    model.save_pretrained(folder)
    CLIPProcessor(image_processor=_image_processor(), tokenizer=tokenizer).save_pretrained(folder)
    return folder


def _image_processor() -> Any:
    from transformers import CLIPImageProcessor

    side = {"height": SIZE_PX, "width": SIZE_PX}
    return CLIPImageProcessor(size=side, crop_size=side)


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
