"""Stage 3: the UNet and its text encoder, trained together on cached latents.

v-prediction (Salimans & Ho 2022); timesteps drawn so that the logarithm of the signal-to-noise
ratio is normally distributed (Karras et al. 2022), all with equal weight; an exponential
moving average of all weights; classifier-free guidance by prompt dropout (see tiny_text).

Legend: N images, B batch, latents (N, 2, 8, 8, 8): the image and its mirror image.
"""

from __future__ import annotations

import random
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as functional
from cifar10 import CLASS_NAMES
from diffusers import DDPMScheduler, DPMSolverMultistepScheduler, UNet2DConditionModel
from diffusers.training_utils import compute_snr
from tiny_autoencoder import LATENT_CHANNELS
from tiny_text import PROMPT_TOKENS, training_prompt
from training_state import ProgressBar, WallClock, load_state, restore_optimizer, save_state
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from gendataagent.generation.tiny.vocabulary import Attributes

TEXT_WIDTH = 128
TIMESTEPS = 1_000
# Karras et al. have 1.0 and 2.4 (P_mean -1.2, P_std 1.2 at sigma_data 0.5) for CIFAR-10 in pixels.
# Uniform timesteps would spend half the images below -1.2, where they teach little.
LOG_SNR_MEAN = 0.4
LOG_SNR_DEVIATION = 2.2
# Stable Diffusion's betas except for the end. An 8 x 8 latent has less redundancy to average noise
# away, but its mean would survive SD's last step (alpha_bar 0.0047) and pull images drawn from pure
# noise to a medium brightness; 0.015 leaves 0.0015.
NOISE_SCHEDULE: dict[str, Any] = {
    "num_train_timesteps": TIMESTEPS,
    "beta_schedule": "scaled_linear",
    "beta_start": 0.00085,
    "beta_end": 0.015,
    "prediction_type": "v_prediction",
}
CHECKPOINT_EVERY_S = 180.0
AVERAGE_EVERY = 4
MIRROR = {"left": "right", "right": "left"}


@dataclass(frozen=True)
class UNetRecipe:
    batch: int = 32
    peak_learning_rate: float = 5e-4
    warm_up_steps: int = 150
    ema_decay: float = 0.999
    seed: int = 0


@dataclass(frozen=True)
class TrainingSet:
    """Scaled latents (N, 2, 8, 8, 8), class index and attributes of each image."""

    latents: torch.Tensor
    labels: list[int]
    attributes: list[Attributes]


def build_scheduler() -> DPMSolverMultistepScheduler:
    """The solver saved in the pipeline."""
    return DPMSolverMultistepScheduler(
        **NOISE_SCHEDULE,
        algorithm_type="dpmsolver++",
        solver_order=2,
        timestep_spacing="trailing",
        steps_offset=1,
    )


def build_unet() -> UNet2DConditionModel:
    return UNet2DConditionModel(
        sample_size=8,
        in_channels=LATENT_CHANNELS,
        out_channels=LATENT_CHANNELS,
        block_out_channels=(128, 192),
        layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        # In this constructor: the number of heads.
        attention_head_dim=4,
        cross_attention_dim=TEXT_WIDTH,
    )


def build_text_encoder(tokenizer: CLIPTokenizer) -> CLIPTextModel:
    config = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=TEXT_WIDTH,
        intermediate_size=4 * TEXT_WIDTH,
        projection_dim=TEXT_WIDTH,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=PROMPT_TOKENS,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return CLIPTextModel(config)


class Denoiser(torch.nn.Module):
    """UNet and text encoder as one set of weights."""

    def __init__(self, tokenizer: CLIPTokenizer) -> None:
        super().__init__()
        self.unet = build_unet()
        self.text_encoder = build_text_encoder(tokenizer)

    def forward(self, noisy: torch.Tensor, t: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
        hidden = self.text_encoder(tokens).last_hidden_state
        v: torch.Tensor = self.unet(noisy, t, encoder_hidden_states=hidden).sample
        return v


def train_unet(
    data: TrainingSet,
    tokenizer: CLIPTokenizer,
    checkpoint: Path,
    *,
    clock: WallClock,
    recipe: UNetRecipe,
    device: str = "cpu",
) -> None:
    """Train until the clock is over; resumes weights, moments and average from `checkpoint`."""
    torch.manual_seed(recipe.seed)
    model = Denoiser(tokenizer).to(device)
    average = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    optimizer = torch.optim.AdamW(
        model.parameters(),
        lr=recipe.peak_learning_rate,
        betas=(0.9, 0.99),
        weight_decay=0.01,
        fused=True,
    )
    steps_before, images_before = _resume(checkpoint, model, average, optimizer)
    recipe = replace(recipe, seed=recipe.seed + steps_before)
    batches = Batches(data, tokenizer, recipe, device)
    bar = ProgressBar("unet", clock, images=images_before, _last_images=images_before)
    last_save, step, smooth_loss = time.time(), 0, float("nan")
    while True:
        finished = clock.over
        if finished or time.time() - last_save > CHECKPOINT_EVERY_S:
            numbers = {"steps": steps_before + step, "images": bar.images, "loss": smooth_loss}
            states = {"model": model.state_dict(), "average": average}
            save_state(checkpoint, states, optimizer, numbers)
            last_save = time.time()
        if finished:
            return
        for group in optimizer.param_groups:
            group["lr"] = recipe.peak_learning_rate * clock.factor(step)
        loss = _train_step(model, optimizer, batches)
        smooth_loss = loss if smooth_loss != smooth_loss else 0.99 * smooth_loss + 0.01 * loss
        step += 1
        _follow(average, model, recipe.ema_decay, steps_before + step)
        bar.advance(recipe.batch, loss=smooth_loss, lr=optimizer.param_groups[0]["lr"])


def _resume(
    checkpoint: Path,
    model: Denoiser,
    average: dict[str, torch.Tensor],
    optimizer: torch.optim.Optimizer,
) -> tuple[int, int]:
    """Load all three from `checkpoint` if there is one; (steps, images) it was trained for."""
    if not checkpoint.exists():
        return 0, 0
    saved, numbers = load_state(checkpoint)
    model.load_state_dict(saved["model"])
    for name, tensor in saved["average"].items():
        average[name].copy_(tensor)
    restore_optimizer(optimizer, saved.get("optimizer", {}))
    return int(numbers["steps"]), int(numbers["images"])


class Batches:
    """Draws noisy latents, timesteps, prompts and v-targets; half of the images are mirrored."""

    def __init__(
        self, data: TrainingSet, tokenizer: CLIPTokenizer, recipe: UNetRecipe, device: str
    ) -> None:
        self._data, self._tokenizer, self._device = data, tokenizer, device
        self._size = recipe.batch
        self._rng = random.Random(recipe.seed)
        self._noise_rng = torch.Generator().manual_seed(recipe.seed)
        self._schedule = DDPMScheduler(**NOISE_SCHEDULE)
        self._cumulative = timestep_distribution(self._schedule)
        self._order: list[int] = []

    def draw(self) -> tuple[torch.Tensor, ...]:
        """(noisy, timesteps, tokens, v), each with B rows."""
        if len(self._order) < self._size:
            self._order = list(range(len(self._data.labels)))
            self._rng.shuffle(self._order)
        rows, self._order = self._order[: self._size], self._order[self._size :]
        mirrored = [self._rng.random() < 0.5 for _ in rows]
        latents = self._data.latents[rows, [int(m) for m in mirrored]].float()
        prompts = [self._prompt(row, m) for row, m in zip(rows, mirrored, strict=True)]
        tokens = self._tokenizer(
            prompts, padding="max_length", truncation=True, return_tensors="pt"
        )
        # Stratified: one timestep from each of B equally likely intervals, for a steadier gradient.
        spread = torch.arange(self._size) + torch.rand(self._size, generator=self._noise_rng)
        t = torch.searchsorted(self._cumulative, spread / self._size).clamp_(max=TIMESTEPS - 1)
        noise = torch.randn(latents.shape, generator=self._noise_rng)
        noisy = self._schedule.add_noise(latents, noise, t)
        v = self._schedule.get_velocity(latents, noise, t)
        return tuple(x.to(self._device) for x in (noisy, t, tokens.input_ids, v))

    def _prompt(self, row: int, mirrored: bool) -> str:
        attributes = self._data.attributes[row]
        if mirrored and attributes.position is not None:
            attributes = replace(attributes, position=MIRROR[attributes.position])
        return training_prompt(CLASS_NAMES[self._data.labels[row]], attributes, self._rng)


def timestep_distribution(schedule: DDPMScheduler) -> torch.Tensor:
    """(T,) cumulative probabilities that make log SNR normal, as far as the schedule reaches."""
    log_snr = compute_snr(schedule, torch.arange(TIMESTEPS)).log().double()
    density = torch.exp(-0.5 * ((log_snr - LOG_SNR_MEAN) / LOG_SNR_DEVIATION) ** 2)
    probabilities = density * torch.gradient(log_snr)[0].abs()
    return (probabilities.cumsum(0) / probabilities.sum()).float()


def _train_step(model: Denoiser, optimizer: torch.optim.Optimizer, batches: Batches) -> float:
    noisy, t, tokens, v = batches.draw()
    with torch.autocast(noisy.device.type, torch.bfloat16):
        predicted = model(noisy, t, tokens)
    loss = functional.mse_loss(predicted.float(), v)
    optimizer.zero_grad(set_to_none=True)
    torch.autograd.backward(loss)
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    return loss.item()


@torch.no_grad()
def _follow(average: dict[str, torch.Tensor], model: Denoiser, decay: float, step: int) -> None:
    """Update the moving average every few steps, with a lower decay in early training."""
    if step % AVERAGE_EVERY:
        return
    decay = min(decay, (1 + step) / (10 + step)) ** AVERAGE_EVERY
    weights = {name: t for name, t in model.state_dict().items() if t.is_floating_point()}
    torch._foreach_lerp_([average[name] for name in weights], list(weights.values()), 1.0 - decay)


def load_average(checkpoint: Path, tokenizer: CLIPTokenizer) -> Denoiser:
    """The averaged model of the latest checkpoint, in evaluation mode."""
    model = Denoiser(tokenizer)
    model.load_state_dict(load_state(checkpoint)[0]["average"])
    return model.eval().requires_grad_(False)
