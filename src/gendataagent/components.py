"""Which class stands behind which name in the settings, and what "auto" means here.

To add a captioner, rewriter or generator: write its class in a new file of backends/ and add one
line to the table below. Nothing heavy is imported before a backend is built.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from gendataagent.config import AUTO, GenerationConfig, RunConfig
from gendataagent.errors import ConfigError
from gendataagent.executors import ProcessExecutor, SerialExecutor
from gendataagent.filtering import FILTERS
from gendataagent.protocols import Captioner, Executor, ImageGenerator, PromptRewriter
from gendataagent.records import ModelDescription
from gendataagent.selection import SELECTORS

TINY_SD = "tiny-sd"
STABLE_DIFFUSION_15 = "stable-diffusion-v1-5/stable-diffusion-v1-5"
VISIBLE_ATTRIBUTES = "visible-attributes"


class GeneratorFactory(Protocol):
    """Builds an image generator, in this process or in a worker; must be picklable."""

    def __call__(self) -> ImageGenerator: ...

    def describe(self) -> ModelDescription:
        """Return which model it builds, without loading it."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Backends:
    """The models of a run and where they run. A user's own take the place of any of them."""

    captioner: Captioner
    rewriter: PromptRewriter
    generator: GeneratorFactory
    executor: Executor


def _visible_attributes_captioner() -> Captioner:
    from gendataagent.backends.tiny.captioner import AttributeCaptioner

    return AttributeCaptioner()


def _no_caption() -> Captioner:
    from gendataagent.backends.plain import NoCaption

    return NoCaption()


def _visible_attributes_rewriter() -> PromptRewriter:
    from gendataagent.backends.tiny.rewriter import AttributeRewriter

    return AttributeRewriter()


def _same_caption() -> PromptRewriter:
    from gendataagent.backends.plain import SameCaption

    return SameCaption()


def _diffusion(config: GenerationConfig, device: str) -> GeneratorFactory:
    from gendataagent.backends.diffusion import DiffusionFactory
    from gendataagent.backends.tiny.assets import model_folder

    named = model_folder() if config.generator == TINY_SD else Path(config.generator).expanduser()
    model = str(named) if named.exists() else config.generator
    return DiffusionFactory.from_config(config, model, device)


CAPTIONERS: Mapping[str, Callable[[], Captioner]] = {
    VISIBLE_ATTRIBUTES: _visible_attributes_captioner,
    "none": _no_caption,
}
REWRITERS: Mapping[str, Callable[[], PromptRewriter]] = {
    VISIBLE_ATTRIBUTES: _visible_attributes_rewriter,
    "none": _same_caption,
}
# A name that is none of these is a hub id or path for diffusers.
GENERATORS: Mapping[str, Callable[[GenerationConfig, str], GeneratorFactory]] = {
    TINY_SD: _diffusion,
}


def problems(config: RunConfig) -> Iterator[str]:
    """Yield a sentence for each name in the settings that stands for nothing; loads nothing."""
    for key, name, table in (
        ("selection.by", config.selection.by, SELECTORS),
        ("filter.by", config.filter.by, FILTERS),
        ("prompting.captioner", config.prompting.captioner, {AUTO: None, **CAPTIONERS}),
        ("prompting.rewriter", config.prompting.rewriter, {AUTO: None, **REWRITERS}),
    ):
        if name not in table:
            yield f"{key} must be one of {', '.join(table)}; got {name!r}"
    yield from _generator_problems(config.generation.generator)
    yield from _model_path_problems("classifier.model", config.classifier.model)


def _model_path_problems(key: str, name: str) -> Iterator[str]:
    looks_like_path = name.startswith((".", "/", "~")) or name.count("/") > 1 or "\\" in name
    if not name:
        yield f"{key} must not be empty; use auto"
    elif looks_like_path and not Path(name).expanduser().exists():
        yield f"{key}: there is no folder {name}"


def _generator_problems(name: str) -> Iterator[str]:
    key = "generation.generator"
    yield from _model_path_problems(key, name)
    if not name or name in (AUTO, *GENERATORS):
        return
    place = Path(name).expanduser()
    if place.is_dir() and not (place / "model_index.json").is_file():
        yield (
            f"{key}: the folder {name} has no model_index.json; name one written by "
            "save_pretrained of a diffusers pipeline"
        )
    elif place.is_file():
        yield f"{key}: {name} is a file; name a folder written by save_pretrained of a pipeline"
    elif not place.exists() and "/" not in name:
        yield (
            f"{key} must be {AUTO}, {', '.join(GENERATORS)}, a folder that is there, or a hub id "
            f"such as {STABLE_DIFFUSION_15}; got {name!r}"
        )


def resolve_auto(
    config: RunConfig, *, device: str, typical_side_px: int
) -> tuple[RunConfig, list[str]]:
    """Return the settings with every machine-dependent "auto" decided, and notes for the user.

    Done once, when a run is made: a resume on another machine must not choose anew.

    Args:
        typical_side_px: usual shorter side of the pictures.
    """
    # torch comes with it, so only here
    from gendataagent.backbones import TINY_RESNET, TINY_RESNET_PX, choose_model

    notes = []
    if config.classifier.model == AUTO:
        model = choose_model(AUTO, typical_side_px=typical_side_px, device=device)
        config = replace(config, classifier=replace(config.classifier, model=model))
        if model == TINY_RESNET and typical_side_px > 2 * TINY_RESNET_PX:
            notes.append(
                f"No GPU was found, so the classifier is {TINY_RESNET}, which sees pictures at "
                f"{TINY_RESNET_PX} px. Name another with classifier.model."
            )
    wanted = config.generation.generator
    config = _with_backends_chosen(config, device)
    if config.agent.enabled and wanted == AUTO and config.generation.generator == TINY_SD:
        notes.append(
            "The generator is the bundled tiny-sd: 32 px pictures of the ten classes of "
            "CIFAR-10, made for trying out. For real work name one on a machine with a GPU: "
            f"--generator {STABLE_DIFFUSION_15}"
        )
    return config, notes


def _with_backends_chosen(config: RunConfig, device: str) -> RunConfig:
    """Return the settings with "auto" decided for captioner, rewriter, generator and its dtype."""
    captioner, rewriter = config.prompting.captioner, config.prompting.rewriter
    generator = config.generation.generator
    if generator == AUTO:
        usable = device.startswith("cuda") and is_cached(STABLE_DIFFUSION_15)
        generator = STABLE_DIFFUSION_15 if usable else TINY_SD
    dtype = config.generation.dtype
    if dtype == AUTO:
        dtype = "float32" if device == "cpu" else "float16"
    return replace(
        config,
        generation=replace(config.generation, generator=generator, dtype=dtype),
        prompting=replace(
            config.prompting,
            captioner=VISIBLE_ATTRIBUTES if captioner == AUTO else captioner,
            rewriter=VISIBLE_ATTRIBUTES if rewriter == AUTO else rewriter,
        ),
    )


def build_backends(config: RunConfig) -> Backends:
    """Return the backends the settings name; the generator itself is loaded when first used.

    Raises:
        ConfigError: a name stands for nothing.
        ModelError: the bundled generator is not where it should be.
    """
    found = list(problems(config))
    if found:
        raise ConfigError(found)
    device = resolve_device(config.device)
    config = _with_backends_chosen(config, device)
    generator = config.generation.generator
    workers = config.generation.workers
    return Backends(
        captioner=CAPTIONERS[config.prompting.captioner](),
        rewriter=REWRITERS[config.prompting.rewriter](),
        generator=GENERATORS.get(generator, _diffusion)(config.generation, device),
        executor=ProcessExecutor(workers) if workers else SerialExecutor(),
    )


def resolve_device(name: str) -> str:
    """Return the torch device a setting stands for; auto = cuda, else mps, else cpu.

    Raises:
        ConfigError: torch knows no such device, or it is not there.
    """
    import torch

    if name == AUTO:
        if torch.cuda.is_available():
            return "cuda"
        return "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        torch.empty(0, device=name)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).strip().splitlines()[0]
        raise ConfigError(f"device {name!r} cannot be used here: {reason}; try auto") from error
    return name


def is_cached(hub_id: str) -> bool:
    """Return whether a diffusers pipeline of the hub is on this machine already."""
    if importlib.util.find_spec("huggingface_hub") is None:
        return False
    from huggingface_hub import try_to_load_from_cache

    return isinstance(try_to_load_from_cache(hub_id, "model_index.json"), str)
