"""Last stage: export the trained modules as a standard diffusers pipeline in half precision."""

from __future__ import annotations

import shutil
from pathlib import Path

from diffusers import AutoencoderTiny, StableDiffusionPipeline
from tiny_text import save_tokenizer
from tiny_unet import Denoiser, build_scheduler
from transformers import CLIPTokenizer

PARTS = ("vae", "text_encoder", "tokenizer", "unet", "scheduler")


def export_pipeline(
    autoencoder: AutoencoderTiny,
    denoiser: Denoiser,
    tokenizer: CLIPTokenizer,
    *,
    scaling_factor: float,
    folder: Path,
) -> int:
    """Write `folder` in `save_pretrained` layout and return its size in bytes.

    The old modules are replaced only when the new ones are complete; other files stay.
    """
    autoencoder.register_to_config(scaling_factor=scaling_factor)
    # The text encoder stays in single precision: transformers keeps the stored dtype, and half
    # precision would not fit the UNet, which diffusers loads in single precision.
    pipeline = StableDiffusionPipeline(
        vae=autoencoder.half(),
        text_encoder=denoiser.text_encoder,
        tokenizer=tokenizer,
        unet=denoiser.unet.half(),
        scheduler=build_scheduler(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    fresh = folder.with_name(folder.name + ".new")
    shutil.rmtree(fresh, ignore_errors=True)
    pipeline.save_pretrained(fresh, safe_serialization=True)
    save_tokenizer(tokenizer, fresh / "tokenizer")
    for file in fresh.rglob("*.safetensors"):
        file.chmod(0o644)  # safetensors writes 0o600, and wheels keep the mode
    folder.mkdir(parents=True, exist_ok=True)
    for part in PARTS:
        shutil.rmtree(folder / part, ignore_errors=True)
        (fresh / part).rename(folder / part)
    (fresh / "model_index.json").replace(folder / "model_index.json")
    shutil.rmtree(fresh)
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
