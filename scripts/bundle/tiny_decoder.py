"""Stages 4 and 5: a feature network, and the decoder trained again on what that network sees.

The encoder is frozen, so latents and the UNet stay valid. Pixel losses alone blur: they average
over the textures a latent leaves open. The second loss compares features of a small classifier,
trained here on the generator's own corpus and used for nothing else, so that the decoder keeps what
classifiers look at.

Legend: B batch, N images, latents are (N, 2, 8, 8, 8) as in tiny_unet, pixels (B, 3, 32, 32).
"""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as functional
from diffusers import AutoencoderTiny
from tiny_autoencoder import load_autoencoder, psnr_db, to_pixels
from torch import nn
from training_state import ProgressBar, WallClock, load_state, restore_optimizer, save_state

BATCH = 32
CHECKPOINT_EVERY_S = 120.0
CLASSES = 10
FEATURES_RATE = 3e-3
DECODER_RATE = 5e-4
EMA_DECAY = 0.998
NOISE_AT_MOST = 0.15
FEATURES_WEIGHT = 1.5
KL_WEIGHT = 0.05


class FeatureNetwork(nn.Module):
    """A residual classifier whose activations at 32, 16, 8 and 4 px are compared."""

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        self.stem = _convolution(3, width, stride=1)
        self.stages = nn.ModuleList(
            nn.Sequential(_convolution(inside, outside, stride=2), _Residual(outside))
            for inside, outside in ((width, 2 * width), (2 * width, 4 * width))
        )
        self.last = _convolution(4 * width, 8 * width, stride=2)
        self.classify = nn.Linear(8 * width, CLASSES)

    def features(self, pixels: torch.Tensor) -> list[torch.Tensor]:
        """Activations from the finest to the coarsest, of pixels in -1..1."""
        found = [self.stem(pixels)]
        for stage in self.stages:
            found.append(stage(found[-1]))
        return [*found, self.last(found[-1])]

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.classify(self.features(pixels)[-1].amax(dim=(2, 3)))
        return logits


class _Residual(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.inner = nn.Sequential(
            _convolution(channels, channels, stride=1), _convolution(channels, channels, stride=1)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = x + self.inner(x)
        return out


def _convolution(inside: int, outside: int, *, stride: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inside, outside, 3, stride, 1, bias=False), nn.BatchNorm2d(outside), nn.ReLU()
    )


def train_features(
    images_NHWC: np.ndarray, labels: np.ndarray, checkpoint: Path, *, clock: WallClock
) -> None:
    """Train the classifier on shifted and mirrored images until the clock is over."""
    model = _channels_last(FeatureNetwork())
    optimizer = torch.optim.AdamW(model.parameters(), lr=FEATURES_RATE, weight_decay=0.05)
    wanted = torch.as_tensor(labels)
    rng = np.random.default_rng()
    bar = ProgressBar("features", clock)
    step, smooth_loss = 0, float("nan")
    while not clock.over:
        for group in optimizer.param_groups:
            group["lr"] = FEATURES_RATE * clock.factor(step)
        rows = rng.integers(len(images_NHWC), size=2 * BATCH)
        pixels = _augmented(to_pixels(images_NHWC[rows]), rng)
        with torch.autocast(pixels.device.type, torch.bfloat16):
            logits = model(pixels)
        loss = functional.cross_entropy(logits.float(), wanted[rows], label_smoothing=0.1)
        optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        optimizer.step()
        step += 1
        smooth_loss = loss.item() if step == 1 else 0.98 * smooth_loss + 0.02 * loss.item()
        bar.advance(2 * BATCH, loss=smooth_loss, lr=optimizer.param_groups[0]["lr"])
    save_state(checkpoint, {"model": model.state_dict()}, None, {"steps": step})


def _augmented(pixels: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
    """Each image moved by up to 4 px; half of the batch mirrored."""
    half = len(pixels) // 2
    pixels = torch.cat([pixels[:half].flip(3), pixels[half:]])
    padded = functional.pad(pixels, (4, 4, 4, 4), mode="reflect")
    moves = rng.integers(0, 9, size=(len(pixels), 2))
    moved = [p[:, y : y + 32, x : x + 32] for p, (y, x) in zip(padded, moves, strict=True)]
    return torch.stack(moved).to(memory_format=torch.channels_last)


def load_features(checkpoint: Path) -> FeatureNetwork:
    model = FeatureNetwork()
    model.load_state_dict(load_state(checkpoint)[0]["model"])
    return _channels_last(model.eval().requires_grad_(False))


def _channels_last(model: FeatureNetwork) -> FeatureNetwork:
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return model


@torch.no_grad()
def accuracy(model: FeatureNetwork, images_NHWC: np.ndarray, labels: np.ndarray) -> float:
    """Share of images whose class `model` names."""
    pixels = torch.split(to_pixels(images_NHWC), 256)
    found = torch.cat([model(part).argmax(dim=1) for part in pixels])
    return float((found == torch.as_tensor(labels)).float().mean())


def train_decoder(
    images_NHWC: np.ndarray,
    latents: torch.Tensor,
    features: FeatureNetwork,
    autoencoder: Path,
    checkpoint: Path,
    *,
    clock: WallClock,
) -> None:
    """Train `autoencoder`'s decoder on unscaled (N, 2, 8, 8, 8) latents until the clock is over.

    `checkpoint` has the layout of `autoencoder`, with an average of the decoder's weights over
    about 500 steps; training resumes from it if it exists.
    """
    model = load_autoencoder(autoencoder).train().to(memory_format=torch.channels_last)
    model.decoder.requires_grad_(True)
    weights = dict(model.decoder.named_parameters())
    optimizer = torch.optim.AdamW(
        weights.values(), lr=DECODER_RATE, betas=(0.9, 0.99), weight_decay=1e-4
    )
    average = _resume(checkpoint, weights, optimizer)
    rng = np.random.default_rng()
    bar = ProgressBar("decoder", clock)
    last_save, step, smooth = time.time(), 0, np.zeros(3)
    while True:
        finished = clock.over
        if finished or time.time() - last_save > CHECKPOINT_EVERY_S:
            _save_decoder(model, average, optimizer, checkpoint, step)
            last_save = time.time()
        if finished:
            return
        for group in optimizer.param_groups:
            group["lr"] = DECODER_RATE * clock.factor(step)
        rows, mirrored = rng.integers(len(images_NHWC), size=BATCH), rng.integers(2, size=BATCH)
        pixels = to_pixels(images_NHWC[rows])
        pixels[mirrored == 1] = pixels[mirrored == 1].flip(3)
        loss, parts = _decoder_loss(model, features, latents[rows, mirrored].float(), pixels)
        optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(weights.values(), 1.0)
        optimizer.step()
        step += 1
        decay = min(EMA_DECAY, (1 + step) / (10 + step))
        with torch.no_grad():
            torch._foreach_lerp_(list(average.values()), list(weights.values()), 1.0 - decay)
        smooth = np.array(parts) if step == 1 else 0.98 * smooth + 0.02 * np.array(parts)
        bar.advance(BATCH, psnr_db=psnr_db(smooth[0]), features=smooth[1], kl=smooth[2])


@torch.no_grad()
def _resume(
    checkpoint: Path, weights: dict[str, nn.Parameter], optimizer: torch.optim.Optimizer
) -> dict[str, torch.Tensor]:
    """Load weights and moments from `checkpoint` if there is one; return the average of weights."""
    saved = load_state(checkpoint)[0] if checkpoint.exists() else {}
    for name, raw in saved.get("raw", {}).items():
        weights[name].copy_(raw)
    restore_optimizer(optimizer, saved.get("optimizer", {}))
    averaged = saved.get("model", {})
    return {name: averaged.get(f"decoder.{name}", w).clone() for name, w in weights.items()}


def _decoder_loss(
    model: AutoencoderTiny, features: FeatureNetwork, latents: torch.Tensor, pixels: torch.Tensor
) -> tuple[torch.Tensor, list[float]]:
    # A quarter of the images has no noise, the rest up to NOISE_AT_MOST: a denoiser's errors.
    noise = torch.rand(len(latents), 1, 1, 1).mul(4 / 3).sub(1 / 3).clamp_min(0) * NOISE_AT_MOST
    pixels = pixels.to(memory_format=torch.channels_last)
    noisy = (latents + noise * torch.randn_like(latents)).to(memory_format=torch.channels_last)
    with torch.autocast(pixels.device.type, torch.bfloat16):
        decoded = model.decode(noisy).sample
        made = features.features(decoded)
        with torch.no_grad():
            real = features.features(pixels)
        made_logits = features.classify(made[-1].amax(dim=(2, 3))).float()
        real_logits = features.classify(real[-1].amax(dim=(2, 3))).float()
    decoded = decoded.float()
    mse = functional.mse_loss(decoded, pixels)
    levels = [relative_error(m.float(), r.float()) for m, r in zip(made, real, strict=True)]
    distance = torch.stack(levels).mean()
    kl = functional.kl_div(
        made_logits.log_softmax(1),
        real_logits.log_softmax(1),
        reduction="batchmean",
        log_target=True,
    )
    loss = (
        functional.l1_loss(decoded, pixels)
        + 4.0 * mse
        + FEATURES_WEIGHT * distance
        + KL_WEIGHT * kl
    )
    return loss, [mse.item(), distance.item(), kl.item()]


def relative_error(made: torch.Tensor, real: torch.Tensor) -> torch.Tensor:
    """Squared error as a share of the activations' variance, averaged over channels."""
    error = (made - real).square().mean(dim=(0, 2, 3))
    return (error / (real.var(dim=(0, 2, 3)) + 1e-4)).mean()


def _save_decoder(
    model: AutoencoderTiny,
    average: dict[str, torch.Tensor],
    optimizer: torch.optim.Optimizer,
    checkpoint: Path,
    step: int,
) -> None:
    raw = {name: w.detach() for name, w in model.decoder.named_parameters()}
    whole = {**model.state_dict(), **{f"decoder.{name}": w for name, w in average.items()}}
    save_state(checkpoint, {"model": whole, "raw": raw}, optimizer, {"steps": step})
