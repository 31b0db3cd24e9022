"""Image-to-image with any Stable Diffusion pipeline of diffusers, the bundled one included."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors import SafetensorError

from gendataagent.config import AUTO, GenerationConfig
from gendataagent.errors import ConfigError, GenerationError, ModelError
from gendataagent.protocols import Rendered, RenderRequest
from gendataagent.records import ModelDescription

DEFAULT_SCHEDULER = "UniPCMultistepScheduler"  # Real-Fake's code [C]
DRAWN_TOGETHER = 8
_BLACK_BELOW = 8  # of 255: what NaN latents and safety checkers leave behind


@dataclass(frozen=True, slots=True, kw_only=True)
class DiffusionFactory:
    """Builds a `DiffusionGenerator`; small and picklable, so that workers can build their own.

    Args:
        model: path of a saved pipeline, or hub id.
        device: torch device, as text.
        dtype: torch dtype by name.
        local_only: never ask the network; False only for a hub id.
    """

    model: str
    revision: str = ""
    size_px: int = 0
    scheduler: str = AUTO
    dtype: str = AUTO
    device: str = "cpu"
    local_only: bool = True

    @classmethod
    def from_config(cls, config: GenerationConfig, model: str, device: str) -> DiffusionFactory:
        """Return the factory of `model` with the settings of `config`."""
        return cls(
            model=model,
            revision=config.revision,
            size_px=config.size_px,
            scheduler=config.scheduler,
            dtype=config.dtype,
            device=device,
            local_only=Path(model).exists(),
        )

    def describe(self) -> ModelDescription:
        """Return name and revision (for a folder: a hash of its content) without loading it."""
        folder = Path(self.model)
        if folder.is_dir():
            return ModelDescription(name=folder.name, revision=content_hash(folder))
        return ModelDescription(name=self.model, revision=self.revision)

    def __call__(self) -> DiffusionGenerator:
        """Load the pipeline; raises `ModelError` with what to do."""
        return DiffusionGenerator(self)


class DiffusionGenerator:
    """Makes images with a diffusers image-to-image pipeline.

    The noise of an image comes from a CPU generator seeded by its request. Matrix kernels round
    otherwise for other batch sizes, so the pipeline always draws `DRAWN_TOGETHER` images at a time,
    the last ones repeated where fewer are asked for: an image is then the same to the bit whatever
    it is asked for with. Only on a device whose memory is too small for that are fewer drawn.
    """

    def __init__(self, factory: DiffusionFactory) -> None:
        self.description = factory.describe()
        self._device = torch.device(factory.device)
        self._dtype = _dtype(factory.dtype, self._device)
        self._pipeline = _load_pipeline(factory, self._dtype)
        self._pipeline.to(self._device)
        self._size_px = _size_px(factory, self._pipeline)
        self._drawn_together = DRAWN_TOGETHER

    @property
    def size_px(self) -> int:
        """Side of the square images made, in pixels."""
        return int(self._size_px)

    def render(self, requests: Sequence[RenderRequest]) -> list[Rendered]:
        """Return one result per request; black or flagged images come with a reason."""
        results: list[Rendered] = []
        for _, group in groupby(requests, key=_shared_settings):
            results.extend(self._render_alike(list(group)))
        return results

    def _render_alike(self, requests: Sequence[RenderRequest]) -> list[Rendered]:
        results = self._draw(requests)
        black = [i for i, result in enumerate(results) if result.rejected_by == "black-image"]
        if black and self._dtype != torch.float32:
            # Half precision can overflow to NaN latents, which decode to black: try those in full.
            self._pipeline.to(torch.float32)
            again = self._draw([requests[i] for i in black])
            self._pipeline.to(self._dtype)
            for i, result in zip(black, again, strict=True):
                results[i] = result
        return results

    def _draw(self, requests: Sequence[RenderRequest]) -> list[Rendered]:
        """Draw in groups of one size, which is halved if the device runs out of memory."""
        results: list[Rendered] = []
        while len(results) < len(requests):
            group = requests[len(results) : len(results) + self._drawn_together]
            try:
                results.extend(self._run_pipeline(group))
                continue
            except torch.OutOfMemoryError as error:
                if self._drawn_together == 1:
                    raise GenerationError(
                        "the device has not enough memory for a single image; lower "
                        "generation.size_px, set generation.dtype=float16, or name another device"
                    ) from error
            self._drawn_together //= 2
            torch.cuda.empty_cache()
        return results

    @torch.inference_mode()
    def _run_pipeline(self, requests: Sequence[RenderRequest]) -> list[Rendered]:
        missing = self._drawn_together - len(requests)
        padded = [*requests, *[requests[-1]] * missing]
        first = padded[0]
        output = self._pipeline(
            prompt=[request.prompt for request in padded],
            negative_prompt=[request.negative_prompt for request in padded],
            image=[_square(request.source, self._size_px) for request in padded],
            strength=first.strength,
            guidance_scale=first.guidance_scale,
            num_inference_steps=first.num_inference_steps,
            generator=[torch.Generator("cpu").manual_seed(request.seed) for request in padded],
        )
        flagged = getattr(output, "nsfw_content_detected", None) or [False] * len(padded)
        return [
            Rendered(image=image, rejected_by=_why_refused(image, bool(flag)))
            for image, flag in zip(output.images, flagged, strict=True)
        ][: len(requests)]


def _shared_settings(request: RenderRequest) -> tuple[float, float, int]:
    return request.strength, request.guidance_scale, request.num_inference_steps


def _why_refused(image: Image.Image, flagged: bool) -> str | None:
    if flagged:
        return "flagged-by-safety-checker"
    return "black-image" if int(np.asarray(image).max()) < _BLACK_BELOW else None


def _square(image: Image.Image, size_px: int) -> Image.Image:
    """Return the centre square of a picture at `size_px`: what the classifier sees of it too."""
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    box = (left, top, left + side, top + side)
    if image.size == (size_px, size_px):
        return image
    return image.resize((size_px, size_px), Image.Resampling.BICUBIC, box=box)


def _dtype(name: str, device: torch.device) -> torch.dtype:
    if name == AUTO:
        return torch.float32 if device.type == "cpu" else torch.float16
    dtype: torch.dtype = getattr(torch, name)
    return dtype


def _size_px(factory: DiffusionFactory, pipeline: Any) -> int:
    """Return the side of the images to make; raise for one that the pipeline would change."""
    if not hasattr(pipeline, "unet"):
        raise ModelError(
            f"{factory.model!r} is a {type(pipeline).__name__}, which has no UNet; name a Stable "
            "Diffusion with generation.generator"
        )
    scale = int(pipeline.vae_scale_factor)
    size_px = factory.size_px or int(pipeline.unet.config.sample_size) * scale
    if size_px % scale:
        raise ConfigError(
            f"generation.size_px must be a multiple of {scale} for this generator, got {size_px}"
        )
    return size_px


_LOAD_ERRORS = (
    OSError, ValueError, LookupError, RuntimeError, AttributeError, TypeError, SafetensorError,
)  # fmt: skip


def _load_asking_nobody_first(load: Callable[..., Any], factory: DiffusionFactory) -> Any:
    """Return the pipeline from this machine; only one that is not here is asked for at the hub."""
    if factory.local_only:
        return load(local_files_only=True)
    try:
        return load(local_files_only=True)
    except _LOAD_ERRORS:
        return load(local_files_only=False)


def _load_pipeline(factory: DiffusionFactory, dtype: torch.dtype) -> Any:
    diffusers = _quiet_diffusers()
    is_folder = Path(factory.model).is_dir()
    load = functools.partial(
        diffusers.AutoPipelineForImage2Image.from_pretrained,
        factory.model,
        revision=factory.revision or None,
        dtype=dtype,
        use_safetensors=True,
    )
    try:
        pipeline = _load_asking_nobody_first(load, factory)
    except _LOAD_ERRORS as error:
        where = "folder" if is_folder else "hub model"
        raise ModelError(
            f"cannot load the generator {factory.model!r} ({where}): {_first_line(error)}. It must "
            "be a pipeline saved by diffusers (a folder with model_index.json and safetensors "
            "weights) or the id of one on the hub; try generation.generator=tiny-sd"
        ) from error
    pipeline.scheduler = _scheduler(factory.scheduler, pipeline.scheduler)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def _scheduler(name: str, default: Any) -> Any:
    import diffusers

    wanted = DEFAULT_SCHEDULER if name == AUTO else name
    cls = getattr(diffusers, wanted, None)
    if cls is None or not wanted.endswith("Scheduler"):
        raise ModelError(
            f"generation.scheduler: diffusers has no scheduler {name!r}; for example "
            "UniPCMultistepScheduler, DPMSolverMultistepScheduler, DDIMScheduler"
        )
    return cls.from_config(default.config)


def _quiet_diffusers() -> Any:
    """Return diffusers, with its and transformers' chatter about loading switched off."""
    import transformers

    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    import diffusers

    diffusers.utils.logging.set_verbosity_error()
    diffusers.utils.logging.disable_progress_bar()
    return diffusers


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")


def content_hash(folder: Path) -> str:
    """Return a hash of a model folder: names and contents of all its files that matter.

    A gigabyte takes about a second, so it is done once per process and state of the folder.
    """
    files = sorted(p for p in folder.rglob("*") if p.suffix in {".json", ".safetensors", ".txt"})
    return _hash_of_files(
        tuple((p.relative_to(folder).as_posix(), p, p.stat().st_mtime_ns) for p in files)
    )


@functools.cache
def _hash_of_files(files: tuple[tuple[str, Path, int], ...]) -> str:
    digest = hashlib.blake2b(digest_size=8)
    for name, path, _ in files:
        with open(path, "rb") as stream:
            content = hashlib.file_digest(stream, "blake2b").digest()
        digest.update(name.encode() + b"\0" + content)
    return digest.hexdigest()
