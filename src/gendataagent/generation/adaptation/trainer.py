"""Train a LoRA, words of the classes or both on labelled images, resumable to the bit.

Everything random (order, crop, flip, noise, timestep) is derived from the run's seed, the epoch and
the image's id. Only weights and optimiser moments carry over from one step to the next.
Letters in tensor names: B images of a batch, C latent channels, S side of a latent.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Generator, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import torch
from accelerate import Accelerator
from torch import Tensor

from gendataagent.config import AUTO, AdaptationConfig
from gendataagent.core.devices import accelerator_of, empty_cache, repeatable_kernels
from gendataagent.core.errors import ConfigError, DataError, ModelError, TrainingDivergedError
from gendataagent.core.progress import Progress, SilentProgress
from gendataagent.core.records import derive_seed
from gendataagent.data.pixels import GIB, ImageSet
from gendataagent.generation.adaptation.batches import (
    Batches,
    ClassTurns,
    EpochBatches,
    Reading,
)
from gendataagent.generation.adaptation.latents import (
    LatentEncoder,
    LatentSource,
    PreparedBatch,
    random_draw,
)
from gendataagent.generation.adaptation.learned import Learned
from gendataagent.generation.adaptation.lora_layers import LoraLayers
from gendataagent.generation.adaptation.lora_loss import (
    adaptation_loss,
    snr_weights,
    target,
)
from gendataagent.generation.adaptation.prompt_embeddings import PromptEmbeddings
from gendataagent.generation.adaptation.token_vectors import TokenVectors
from gendataagent.generation.adaptation.trainable import check_trainable, training_schedule

SMALL_GPU_BYTES = 16 * GIB
BETAS, EPSILON = (0.9, 0.999), 1e-8  # Real-Fake's code [C]
MOMENTS = ("step", "exp_avg", "exp_avg_sq")  # AdamW's state of each matrix
_RATES = {"tokens": "token_learning_rate", "lora": "learning_rate"}
_DTYPES = {"no": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


def weight_dtype(precision: str) -> torch.dtype:
    """Return the dtype to load the frozen weights in."""
    return _DTYPES[precision]


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """A finished optimiser step: its number and epoch (from 1), loss, and number of images."""

    number: int
    epoch: int
    loss: float
    images: int


class AdaptationTrainer:
    """Real-Fake's recipe on the UNet of a pipeline, or on words of its text encoders.

    Use it in a `with` block: on exit what is trained is removed and the pipeline is restored. On a
    GPU the text encoders and the autoencoder are moved to the CPU during training once everything
    they would encode is cached.

    Args:
        pipeline: Stable Diffusion 1, 2 or XL, loaded in `weight_dtype(precision)`.
        prompts: full prompt of each image; where words are learned, with them.
        words: class name -> words that name it for the generator; needed where words are learned.
        labels: class of each image, where each step reads one class.
        precision: no, fp16 or bf16; see `core.devices.adaptation_precision`.
        size_px: side of the training images; a multiple of the autoencoder's factor.
        device: name of a torch device.

    Raises:
        ConfigError, DataError, ModelError: settings, images or pipeline do not fit together.
    """

    def __init__(
        self,
        pipeline: Any,
        images: ImageSet,
        prompts: Sequence[str],
        config: AdaptationConfig,
        *,
        seed: int,
        size_px: int,
        device: str = "cpu",
        precision: str = "no",
        words: Mapping[str, str] | None = None,
        labels: Sequence[int] = (),
    ) -> None:
        check_trainable(pipeline, images, config, size_px=size_px)
        if len(prompts) != len(images):
            raise DataError(f"{len(images)} images but {len(prompts)} prompts")
        self.config, self.seed, self.steps_done = config, seed, 0
        self.pipeline = pipeline
        self._ids = tuple(images.ids)
        self._device = torch.device(device)
        self._original_device = pipeline.device
        self._schedule = training_schedule(pipeline)
        self._accelerator = _accelerator(self._device, precision)
        pipeline.to(self._device)
        self._text = PromptEmbeddings(pipeline, prompts, self._device, learns=config.trains_tokens)
        self.latents = LatentSource(
            images,
            LatentEncoder(pipeline),
            size_px=size_px,
            random_crop=config.random_crop,
            flip=config.flip,
        )
        side = size_px // int(pipeline.vae_scale_factor)
        self._shape_CSS = (int(pipeline.unet.config.in_channels), side, side)
        self.parts = _parts(pipeline, config, self._device, seed=seed, words=words or {})
        self._parameters = {
            n: p for part in self.parts.values() for n, p in part.parameters.items()
        }
        self._rates: dict[str, float] = {p: getattr(config, _RATES[p]) for p in self.parts}
        self._adamw = torch.optim.AdamW(
            [
                {"params": list(part.parameters.values()), "lr": self._rates[name]}
                for name, part in self.parts.items()
            ],
            betas=BETAS,
            eps=EPSILON,
            weight_decay=config.weight_decay,
        )
        # Only the optimizer is prepared: preparing the UNet would patch its forward permanently.
        self._optimizer = self._accelerator.prepare_optimizer(self._adamw)
        self._batches: Batches = EpochBatches(
            seed=seed, count=len(images), batch_size=config.batch_size, epochs=config.epochs
        )
        if not config.trains_lora:
            self._batches = ClassTurns(
                seed=seed,
                labels=labels,
                batch_size=config.batch_size,
                steps_each=config.token_steps,
            )
        self.steps, self.steps_per_epoch = self._batches.steps, self._batches.steps_per_epoch

    @property
    def epochs_done(self) -> int:
        """Number of finished epochs; at the end, of begun ones."""
        if self.steps_done == self.steps:
            return -(-self.steps // self.steps_per_epoch)
        return self.steps_done // self.steps_per_epoch

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:  # fmt: skip
        for part in reversed(self.parts.values()):
            part.remove()
        self.pipeline.to(self._original_device)

    def cache(self, progress: Progress | None = None) -> None:
        """Encode prompts and images once where that is exact and memory allows."""
        self._text.cache(progress or SilentProgress())
        self.latents.cache(progress or SilentProgress())

    def train(self) -> Generator[Step]:
        """Train to the last step and yield each; the next batch is read in a thread meanwhile.

        Raises:
            TrainingDivergedError: the loss is not a finite number.
        """
        if self.steps_done >= self.steps:
            return
        self._offload_unused()
        with repeatable_kernels(self._device), ThreadPoolExecutor(1) as reader:
            next_batch = self._read(reader, self.steps_done)
            try:
                while self.steps_done < self.steps:
                    batch = next_batch.result()
                    if self.steps_done + 1 < self.steps:
                        next_batch = self._read(reader, self.steps_done + 1)
                    loss = self._step(batch)
                    self.steps_done += 1
                    yield Step(
                        number=self.steps_done,
                        epoch=(self.steps_done - 1) // self.steps_per_epoch + 1,
                        loss=loss,
                        images=len(batch.indices),
                    )
            finally:
                next_batch.cancel()

    @contextlib.contextmanager
    def sampling(self) -> Iterator[Any]:
        """Lend the pipeline with what is trained so far, to generate images between two steps."""
        self.pipeline.to(self._device)
        try:
            yield self.pipeline
        finally:
            self._offload_unused()

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Return everything the next step depends on: tensors, and JSON values."""
        tensors = {
            f"{part}.{name}": tensor
            for part, learned in self.parts.items()
            for name, tensor in learned.tensors().items()
        }
        for name, parameter in self._parameters.items():
            for moment, value in self._adamw.state.get(parameter, {}).items():
                tensors[f"adamw.{moment}.{name}"] = value.detach().cpu().clone()
        scaler = self._accelerator.scaler
        return tensors, {
            "steps_done": self.steps_done,
            "loss_scaler": scaler.state_dict() if scaler is not None else None,
        }

    def load_state(self, tensors: Mapping[str, Tensor], state: Mapping[str, Any]) -> None:
        """Restore what `state` returned, and verify it.

        Raises:
            ModelError: it belongs to another training.
        """
        for part, learned in self.parts.items():
            own = {n: t for n, t in tensors.items() if n.startswith(f"{part}.")}
            learned.restore({n.removeprefix(f"{part}."): t for n, t in own.items()})
        moments: dict[int, dict[str, Tensor]] = {}
        for position, name in enumerate(self._parameters):
            found = {
                m: t.clone() for m in MOMENTS if (t := tensors.get(f"adamw.{m}.{name}")) is not None
            }
            if found:
                moments[position] = found
        # None at all if fp16 skipped every step so far; a word has some once its class was read.
        of_lora = len(self.parts["lora"].parameters) if "lora" in self.parts else 0
        first = len(self._parameters) - of_lora
        if any(len(found) != len(MOMENTS) for found in moments.values()) or (
            sum(position >= first for position in moments) not in (0, of_lora)
        ):
            raise ModelError("the training state is incomplete: moments of AdamW are missing")
        self._adamw.load_state_dict({**self._adamw.state_dict(), "state": moments})
        scaler = self._accelerator.scaler
        if scaler is not None and state["loss_scaler"]:
            scaler.load_state_dict(state["loss_scaler"])
        self.steps_done = int(state["steps_done"])
        now, now_state = self.state()
        if set(now) != set(tensors) or now_state != dict(state):
            raise ModelError("the training state belongs to another training or another precision")
        wrong = [name for name in now if not torch.equal(now[name], tensors[name])]
        if wrong:
            raise ModelError(f"the training state could not be restored: {wrong[0]} differs")

    def _read(self, reader: ThreadPoolExecutor, step: int) -> Future[PreparedBatch]:
        return reader.submit(self._prepare, self._batches.of(step))

    def _prepare(self, readings: Sequence[Reading]) -> PreparedBatch:
        timesteps = int(self._schedule.config.num_train_timesteps)
        draws = [
            random_draw(
                self.seed, epoch, self._ids[i], shape_CSS=self._shape_CSS, timesteps=timesteps
            )
            for epoch, i in readings
        ]
        return self.latents.prepare([i for _, i in readings], draws)

    def _step(self, batch: PreparedBatch) -> float:
        loss = self._loss(batch)
        value = loss.item()
        if not math.isfinite(value):
            rates = {f"adaptation.{_RATES[part]}": self._rates[part] for part in self.parts}
            shown = " and ".join(f"{key} = {rate:g}" for key, rate in rates.items())
            raise TrainingDivergedError(
                f"the loss of the adaptation is {value} at step {self.steps_done + 1}, with "
                f"{shown}. Lower {' or '.join(rates)} (try a tenth) or adaptation.mmd_weight; with "
                "adaptation.mixed_precision=fp16 also try bf16 or no"
            )
        self._optimizer.zero_grad()
        self._accelerator.backward(loss)
        self._accelerator.clip_grad_norm_(
            list(self._parameters.values()), self.config.gradient_clip
        )
        self._optimizer.step()
        return float(value)

    def _loss(self, batch: PreparedBatch) -> Tensor:
        from diffusers.training_utils import compute_snr

        schedule, device, unet = self._schedule, self._device, self.pipeline.unet
        latents_BCSS = self.latents.latents(batch).to(device)
        noise_BCSS = torch.stack([d.noise_CSS for d in batch.draws]).to(device)
        timesteps_B = torch.tensor([d.timestep for d in batch.draws], device=device)
        embeddings_BLD, pooled_BD = self._text.of(batch.indices)
        extra = {}
        if pooled_BD is not None:
            sizes_B6 = batch.sizes_B6.to(device, pooled_BD.dtype)
            extra = {"text_embeds": pooled_BD, "time_ids": sizes_B6}
        with self._accelerator.autocast():
            predicted_BCSS = unet(
                schedule.add_noise(latents_BCSS, noise_BCSS, timesteps_B).to(unet.dtype),
                timesteps_B,
                embeddings_BLD.to(unet.dtype),
                added_cond_kwargs=extra or None,
                return_dict=False,
            )[0]
        weights_B = snr_weights(
            compute_snr(schedule, timesteps_B),
            self.config.snr_gamma,
            schedule.config.prediction_type,
        )
        target_BCSS = target(schedule, latents_BCSS, noise_BCSS, timesteps_B)
        return adaptation_loss(predicted_BCSS, target_BCSS, weights_B, self.config.mmd_weight)

    def _offload_unused(self) -> None:
        """Move the modules that training does not need from the GPU to the CPU."""
        if self._device.type == "cpu":
            return
        parts = ["text_encoder", "text_encoder_2"] if self._text.fully_cached else []
        parts += ["vae"] if self.latents.fully_cached else []
        for name in [*parts, "safety_checker", "image_encoder"]:
            module = getattr(self.pipeline, name, None)
            if module is not None:
                module.to("cpu")
        empty_cache()


def _parts(
    pipeline: Any,
    config: AdaptationConfig,
    device: torch.device,
    *,
    seed: int,
    words: Mapping[str, str],
) -> dict[str, Learned]:
    """Return what is trained, by name; what is put into the pipeline last is removed first."""
    checkpointing = _use_gradient_checkpointing(config, device)
    parts: dict[str, Learned] = {}
    if config.trains_tokens:
        parts["tokens"] = TokenVectors(
            pipeline,
            words,
            vectors=config.token_vectors,
            gradient_checkpointing=checkpointing,
        )
    if config.trains_lora:
        parts["lora"] = LoraLayers(
            pipeline,
            rank=config.rank,
            seed=derive_seed(seed, "lora"),
            gradient_checkpointing=checkpointing,
        )
    return parts


def _use_gradient_checkpointing(config: AdaptationConfig, device: torch.device) -> bool:
    """Return whether activations are computed again: auto = on a GPU of at most 16 GiB."""
    if config.gradient_checkpointing != AUTO:
        return config.gradient_checkpointing == "on"
    if device.type != "cuda":
        return False
    return torch.cuda.get_device_properties(device).total_memory <= SMALL_GPU_BYTES


def _accelerator(device: torch.device, precision: str) -> Accelerator:
    """Return an Accelerator of this precision, whatever earlier ones in the process were."""
    if precision == "fp16" and device.type != "cuda":
        raise ConfigError(
            f"adaptation.mixed_precision=fp16 needs a CUDA GPU, got {device.type}; use auto"
        )
    return accelerator_of(device, precision)
