"""Generation as a run does it against the plain loop: one image a call, nothing cached.

Both have the same weights, requests, steps and process. The loop runs in the dtype that such code
uses, float32 on a CPU and float16 on a GPU; the path in what the settings decide. Each repetition
has new sources and texts, so that no cache helps more than in a run.
"""

from __future__ import annotations

import contextlib
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from gendataagent.agent.decisions import with_machine_decided, with_threads
from gendataagent.config import RunConfig
from gendataagent.core.devices import cpu_threads, dtype_name, resolve_device
from gendataagent.core.errors import ConfigError
from gendataagent.core.memory import PeakMemory
from gendataagent.core.progress import Progress, SilentProgress
from gendataagent.core.protocols import RenderRequest
from gendataagent.data import LabelledImages, load_data
from gendataagent.generation.backends import build_generator, name_problems
from gendataagent.generation.diffusion import DiffusionFactory
from gendataagent.generation.prompts import compose_prompt

BUNDLED = "bundled:cifar10"  # sources where no data is named
_STAGES = ("text", "encode", "denoise", "decode")


@dataclass(frozen=True, slots=True, kw_only=True)
class Speed:
    """What a benchmark measured; one entry of a list for each repetition.

    Args:
        images: made by the path in each repetition.
        loop_images: made by the loop in each repetition.
        path_per_s, loop_per_s: images a second.
        processor_ratios: the loop's processor time of an image over the path's, which other
            programs disturb less; empty on a GPU.
        stage_share: share of the path's time: text, encode, denoise, decode, other.
        peak_memory_mib: of the process on a CPU, of torch's allocations on a GPU.
    """

    device: str
    threads: int
    model: str
    size_px: int
    dtype: str
    batch_size: int
    loop_dtype: str
    images: int
    loop_images: int
    path_per_s: list[float]
    loop_per_s: list[float]
    processor_ratios: list[float]
    stage_share: dict[str, float]
    peak_memory_mib: float

    @property
    def ratios(self) -> list[float]:
        """How many times the loop's rate the path reached, in each repetition."""
        return [path / loop for path, loop in zip(self.path_per_s, self.loop_per_s, strict=True)]

    @property
    def ratio(self) -> float:
        """The median of `ratios`."""
        return statistics.median(self.ratios)


def measure_speed(
    config: RunConfig,
    *,
    images: int = 64,
    loop_images: int = 16,
    repetitions: int = 3,
    progress: Progress | None = None,
) -> Speed:
    """Return how fast this machine generates with `config`, against the plain loop.

    Args:
        images: made by the path in each repetition; whole batches avoid padding.
        loop_images: made by the loop in each repetition, the first of the same.

    Raises:
        ConfigError, DataError, ModelError: settings, data or generator cannot be used.
    """
    progress, device = progress or SilentProgress(), resolve_device(config.device)
    if not config.data.path:
        config = replace(config, data=replace(config.data, path=BUNDLED))
    if problems := list(name_problems(config)):
        raise ConfigError(problems)
    config = with_machine_decided(with_threads(config), device, try_batch=True)
    factory = build_generator(config)
    if not isinstance(factory, DiffusionFactory):
        raise ConfigError(
            "generation.generator must be a diffusers pipeline to be measured, got "
            f"{config.generation.generator!r}"
        )
    factory.check()
    sources = load_data(config.data, seed=config.seed).train
    with cpu_threads(config.threads):
        return _measure(config, factory, sources, (images, loop_images), repetitions, progress)


def _measure(
    config: RunConfig,
    factory: DiffusionFactory,
    sources: LabelledImages,
    counts: tuple[int, int],
    repetitions: int,
    progress: Progress,
) -> Speed:
    images, loop_images = counts[0], min(counts)
    path = factory()
    loop_dtype = dtype_name("auto", factory.device)
    plain = PlainLoop(factory, loop_dtype)
    rates: dict[str, list[float]] = {"path": [], "loop": []}
    processor: dict[str, list[float]] = {"path": [], "loop": []}
    with progress.stage("measure", 2 * repetitions + 2, "runs") as stage:
        # Not counted: the first call chooses kernels.
        path.render(_requests(config, sources, factory.batch_size, 0))
        plain.render(_requests(config, sources, 1, 0))
        stage.advance()
        for repetition in range(1, repetitions + 1):
            requests = _requests(config, sources, images, repetition)
            for name, render, wanted in (
                ("path", path.render, requests),
                ("loop", plain.render, requests[:loop_images]),
            ):
                before = time.process_time()
                rates[name].append(len(wanted) / _seconds(render, wanted, factory.device))
                processor[name].append((time.process_time() - before) / len(wanted))
                stage.advance()
        requests = _requests(config, sources, images, repetitions + 1)
        with PeakMemory(factory.device) as peak:
            shares = _stage_shares(path, requests, factory.device)
        stage.advance()
    return Speed(
        device=factory.device,
        threads=config.threads,
        model=path.description.name,
        size_px=path.size_px,
        dtype=config.generation.dtype,
        batch_size=path.batch_size,
        loop_dtype=loop_dtype,
        images=images,
        loop_images=loop_images,
        path_per_s=rates["path"],
        loop_per_s=rates["loop"],
        processor_ratios=[
            loop / path
            for loop, path in zip(processor["loop"], processor["path"], strict=True)
            if factory.device == "cpu"
        ],
        stage_share=shares,
        peak_memory_mib=peak.mib,
    )


class PlainLoop:
    """Calls the pipeline once for each image, as code without this package does."""

    def __init__(self, factory: DiffusionFactory, dtype: str) -> None:
        from gendataagent.core.devices import torch_dtype
        from gendataagent.generation.diffusion.loading import load_pipeline, move_to_device
        from gendataagent.generation.diffusion.signature import CallSignature

        self._pipeline = load_pipeline(factory, torch_dtype(dtype))
        self._signature = CallSignature.of(
            self._pipeline, factory.model, factory.size_px, factory.control
        )
        move_to_device(self._pipeline, factory)

    def render(self, requests: Sequence[RenderRequest]) -> list[Any]:
        """Return one image per request."""
        return [
            self._pipeline(**self._signature.arguments([request])).images[0] for request in requests
        ]


def _requests(
    config: RunConfig, sources: LabelledImages, count: int, repetition: int
) -> list[RenderRequest]:
    """Return requests of `rewrites` images for each source, each with its own text."""
    settings, each = config.generation, config.prompting.rewrites
    requests = []
    for number in range(count):
        index = (repetition * count + number // each) % len(sources)
        words = f"number {number} of repetition {repetition}"
        requests.append(
            RenderRequest(
                source=sources.image(index),
                prompt=compose_prompt(sources.class_names[sources.labels[index]], words),
                negative_prompt=settings.negative_prompt,
                seed=repetition * count + number,
                strength=settings.drawn_strengths[0],
                guidance_scale=settings.guidance,
                num_inference_steps=settings.steps,
                class_name=sources.class_names[sources.labels[index]],
            )
        )
    return requests


def _seconds(
    render: Callable[[Sequence[RenderRequest]], object],
    requests: Sequence[RenderRequest],
    device: str,
) -> float:
    _wait(device)
    started = time.perf_counter()
    render(requests)
    _wait(device)
    return time.perf_counter() - started


def _wait(device: str) -> None:
    if device.startswith("cuda"):
        import torch

        torch.cuda.synchronize(device)


def _stage_shares(path: Any, requests: Sequence[RenderRequest], device: str) -> dict[str, float]:
    """Return the share of each stage in the time of rendering; waiting for a GPU after each."""
    from gendataagent.generation.diffusion.signature import denoiser_of

    spent = dict.fromkeys(_STAGES, 0.0)
    pipeline = path.pipeline
    denoiser = denoiser_of(pipeline)
    parts = ((pipeline, "encode_prompt"), (pipeline.vae, "encode"), (denoiser, "forward"),
             (pipeline.vae, "decode"))  # fmt: skip
    with contextlib.ExitStack() as stack:
        for name, (owner, method) in zip(spent, parts, strict=True):
            stack.enter_context(_timed(owner, method, spent, name, device))
        total = _seconds(path.render, requests, device)
    spent["other"] = max(0.0, total - sum(spent.values()))
    return {name: seconds / total for name, seconds in spent.items()}


@contextlib.contextmanager
def _timed(
    owner: Any, method: str, spent: dict[str, float], name: str, device: str
) -> Iterator[None]:
    """Add the seconds of each call of a method to `spent[name]` within the block."""
    own = vars(owner).get(method)
    inner = getattr(owner, method)

    def call(*args: Any, **options: Any) -> Any:
        _wait(device)
        started = time.perf_counter()
        result = inner(*args, **options)
        _wait(device)
        spent[name] += time.perf_counter() - started
        return result

    setattr(owner, method, call)
    try:
        yield
    finally:
        if own is None:
            delattr(owner, method)
        else:
            setattr(owner, method, own)
