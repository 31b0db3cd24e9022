"""Stage 1: an AutoencoderTiny from 32 px to 8 x 8 latents with about unit variance.

Legend: B batch, latents are (B, LATENT_CHANNELS, 8, 8).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as functional
from diffusers import AutoencoderTiny
from training_state import ProgressBar, WallClock, load_state, restore_optimizer, save_state

LATENT_CHANNELS = 8
CONFIG = {
    "encoder_block_out_channels": (64, 64, 64),
    "decoder_block_out_channels": (64, 64, 64),
    "num_encoder_blocks": (0, 2, 2),
    "num_decoder_blocks": (2, 3, 0),
    "latent_channels": LATENT_CHANNELS,
}
BATCH = 32
PEAK_LEARNING_RATE = 1e-3
# Noise on the decoder's input in training makes it robust to a denoiser's errors.
LATENT_NOISE = 0.04
# Pulls every latent channel to mean 0 and deviation 1; the decoder squashes beyond 3.
NORMALISE_WEIGHT = 0.01
CHECKPOINT_EVERY_S = 120.0


def to_pixels(images_NHWC: np.ndarray) -> torch.Tensor:
    """uint8 (N, 32, 32, 3) -> float (N, 3, 32, 32) in -1..1."""
    pixels = torch.tensor(np.ascontiguousarray(images_NHWC)).permute(0, 3, 1, 2)
    return pixels.float().div_(127.5).sub_(1.0)


def train_autoencoder(images_NHWC: np.ndarray, checkpoint: Path, *, clock: WallClock) -> None:
    """Train until the clock is over, resuming from `checkpoint` if there is one."""
    model = AutoencoderTiny(**CONFIG).to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(model.parameters(), lr=PEAK_LEARNING_RATE, weight_decay=1e-4)
    if checkpoint.exists():
        saved, _ = load_state(checkpoint)
        model.load_state_dict(saved["model"])
        restore_optimizer(optimizer, saved.get("optimizer", {}))
    rng = np.random.default_rng()
    bar = ProgressBar("autoencoder", clock)
    last_save, step = clock.start, 0
    while not clock.over:
        for group in optimizer.param_groups:
            group["lr"] = PEAK_LEARNING_RATE * clock.factor(step)
        chosen = images_NHWC[rng.integers(len(images_NHWC), size=BATCH)]
        if rng.random() < 0.5:
            chosen = chosen[:, :, ::-1]
        pixels = to_pixels(chosen).to(memory_format=torch.channels_last)
        loss, mse = _losses(model, pixels)
        optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        step += 1
        bar.advance(BATCH, psnr_db=psnr_db(mse), lr=optimizer.param_groups[0]["lr"])
        if clock.start + clock.used * (clock.finish - clock.start) - last_save > CHECKPOINT_EVERY_S:
            last_save += CHECKPOINT_EVERY_S
            save_state(checkpoint, {"model": model.state_dict()}, optimizer, {"step": step})
    save_state(checkpoint, {"model": model.state_dict()}, optimizer, {"step": step, "done": 1})


def _losses(model: AutoencoderTiny, pixels: torch.Tensor) -> tuple[torch.Tensor, float]:
    with torch.autocast(pixels.device.type, torch.bfloat16):
        latents = model.encode(pixels).latents
        noisy = latents + LATENT_NOISE * torch.randn_like(latents)
        decoded = model.decode(noisy).sample
    decoded, latents = decoded.float(), latents.float()
    mse = functional.mse_loss(decoded, pixels)
    deviation, mean = torch.std_mean(latents, dim=(0, 2, 3))
    normal = mean.square().mean() + deviation.clamp_min(1e-4).log().square().mean()
    loss = functional.l1_loss(decoded, pixels) + 4.0 * mse + NORMALISE_WEIGHT * normal
    return loss, mse.item()


def psnr_db(mse: float) -> float:
    """Peak signal to noise in decibels for pixels in -1..1 (a range of 2)."""
    return float(10.0 * np.log10(4.0 / max(mse, 1e-12)))


def load_autoencoder(checkpoint: Path) -> AutoencoderTiny:
    model = AutoencoderTiny(**CONFIG)
    model.load_state_dict(load_state(checkpoint)[0]["model"])
    return model.eval().requires_grad_(False)


@torch.no_grad()
def encode(model: AutoencoderTiny, images_NHWC: np.ndarray, *, batch: int = 256) -> torch.Tensor:
    """Unscaled latents, float32 (N, 8, 8, 8)."""
    parts = (to_pixels(images_NHWC[i : i + batch]) for i in range(0, len(images_NHWC), batch))
    return torch.cat([model.encode(pixels).latents.float() for pixels in parts])


@torch.no_grad()
def reconstruction_psnr_db(model: AutoencoderTiny, images_NHWC: np.ndarray) -> float:
    """Mean over images of the PSNR of decode(encode(image)), pixels clamped to -1..1."""
    latents = encode(model, images_NHWC)
    decoded = torch.cat([model.decode(part).sample for part in torch.split(latents, 256)]).clamp(
        -1, 1
    )
    mse = (decoded - to_pixels(images_NHWC)).square().mean(dim=(1, 2, 3))
    return float((10.0 * torch.log10(4.0 / mse.clamp_min(1e-12))).mean())
