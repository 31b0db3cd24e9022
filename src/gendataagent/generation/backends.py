"""The tables of captioners, rewriters and generators: from a name in the settings to an object.

To add one:

1. Write its class in a new module of this package. `core.protocols` has the interface: `Captioner`,
   `PromptRewriter` or `ImageGenerator`. Give it a `check` method (see `Checked`) if something can
   be wrong with it before its first use.
2. Add a function here that imports and returns it, so that nothing heavy is imported early.
3. Add a line with its name to `CAPTIONERS`, `REWRITERS` or `GENERATORS`.
4. Run the checks of tests/generation/conformance.py on it.

A name in no table is a model on disk or on a hub.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from gendataagent.config import AUTO, GenerationConfig, RunConfig
from gendataagent.core import hub
from gendataagent.core.devices import (
    adaptation_precision,
    dtype_name,
    image_dtype_name,
    resolve_device,
)
from gendataagent.core.environment import environment
from gendataagent.core.errors import ConfigError
from gendataagent.core.files import expand
from gendataagent.core.plugins import Parts
from gendataagent.core.protocols import Captioner, Executor, ImageGenerator, PromptRewriter
from gendataagent.core.records import RETRIEVAL, WITH_EDGES, ModelDescription
from gendataagent.generation.caption_cache import (
    CacheableCaptioner,
    CachedCaptioner,
    caption_folder,
)
from gendataagent.generation.diffusion.batch_trial import tried_batch
from gendataagent.generation.diffusion.batching import UNKNOWN
from gendataagent.generation.diffusion.mirrors import STABLE_DIFFUSION_15
from gendataagent.generation.executors.choosing import executor_of
from gendataagent.generation.executors.worker import SharedExecutor
from gendataagent.generation.language.building import ENDPOINT
from gendataagent.generation.render_cache import CachingExecutor

if TYPE_CHECKING:
    from gendataagent.generation.diffusion import DiffusionFactory

TINY_SD = "tiny-sd"
VISIBLE_ATTRIBUTES = "visible-attributes"
EXAMPLE_CAPTIONER = "Salesforce/blip2-opt-2.7b"
EXAMPLE_REWRITER = "meta-llama/Llama-2-7b-chat-hf"


@runtime_checkable
class Checked(Protocol):
    """A captioner, rewriter or generator factory that can be checked before a run starts.

    The method is optional: parts without it are used unchecked.
    """

    def check(self) -> None:
        """Raise `ModelError` for every fault that shows without loading weights."""
        ...


@runtime_checkable
class Noted(Protocol):
    """A captioner, rewriter or executor that has something to tell the user (optional)."""

    @property
    def notes(self) -> Sequence[str]:
        """Sentences about what it met so far."""
        ...


class GeneratorFactory(Protocol):
    """Builds the image generator. It is pickled and sent to worker processes, so it holds names and
    settings, no loaded model.
    """

    def __call__(self) -> ImageGenerator:
        """Load and return the generator."""
        ...

    def describe(self) -> ModelDescription:
        """Return which model it builds, without loading it."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Backends:
    """The models of a run and the executor that renders with them; each can be your own object."""

    captioner: Captioner
    rewriter: PromptRewriter
    generator: GeneratorFactory
    executor: Executor


def _visible_attributes_captioner() -> Captioner:
    from gendataagent.generation.tiny.captioner import AttributeCaptioner

    return AttributeCaptioner()


def _no_caption() -> Captioner:
    from gendataagent.generation.plain import NoCaption

    return NoCaption()


def _visible_attributes_rewriter() -> PromptRewriter:
    from gendataagent.generation.tiny.rewriter import AttributeRewriter

    return AttributeRewriter()


def _same_caption() -> PromptRewriter:
    from gendataagent.generation.plain import SameCaption

    return SameCaption()


def _scenes() -> PromptRewriter:
    from gendataagent.generation.scenes import SceneRewriter

    return SceneRewriter()


def _other_contexts() -> PromptRewriter:
    from gendataagent.generation.contexts import OtherContexts

    return OtherContexts()


def _diffusion(config: RunConfig, device: str) -> DiffusionFactory:
    from gendataagent.generation.diffusion import DiffusionFactory
    from gendataagent.generation.tiny.model import model_folder

    name = config.generation.generator
    folder = model_folder() if name == TINY_SD else expand(name)
    return DiffusionFactory.from_config(
        config.generation,
        str(folder) if folder.exists() else name,
        device,
        trust_remote_code=config.trust_remote_code,
    )


def _retrieval(config: RunConfig, device: str) -> GeneratorFactory:
    from gendataagent.generation.retrieval import RetrievalFactory

    return RetrievalFactory.from_config(config, device)


def _image_to_text(config: RunConfig, device: str, executor: SharedExecutor) -> Captioner:
    from gendataagent.generation.captioning import ImageToTextCaptioner

    captioner: CacheableCaptioner = ImageToTextCaptioner.from_config(config, device)
    if executor.on_other_devices:
        from gendataagent.generation.pooled import PooledCaptioner

        captioner = PooledCaptioner(captioner, executor, batch_size=config.prompting.batch_size)
    folder = caption_folder(config.prompting.caption_cache)
    return captioner if folder is None else CachedCaptioner(captioner, folder)


def _language_model(config: RunConfig, device: str, executor: SharedExecutor) -> PromptRewriter:
    from gendataagent.generation.diffusion.prompts import token_limit
    from gendataagent.generation.language.building import build_chat
    from gendataagent.generation.language.rewriter import LanguageModelRewriter
    from gendataagent.generation.language.validator import RewriteValidator

    chat = build_chat(config, device)  # first: it costs nothing and fails for a missing package
    on_server = config.prompting.rewriter == ENDPOINT
    if executor.on_other_devices and not on_server:
        from gendataagent.generation.pooled import PooledChat

        chat = PooledChat(chat, executor, batch_size=config.prompting.batch_size)
    count_tokens, limit = token_limit(_diffusion(config, device))
    validator = RewriteValidator(count_tokens=count_tokens, token_limit=limit)
    return LanguageModelRewriter(chat, validator, template=_visible_attributes_rewriter())


CAPTIONERS: Mapping[str, Callable[[], Captioner]] = Parts(
    "captioners", {VISIBLE_ATTRIBUTES: _visible_attributes_captioner, "none": _no_caption}
)
REWRITERS: Mapping[str, Callable[[], PromptRewriter]] = Parts(
    "rewriters",
    {
        VISIBLE_ATTRIBUTES: _visible_attributes_rewriter,
        "contexts": _other_contexts,
        "scenes": _scenes,
        "none": _same_caption,
    },
)
GENERATORS: Mapping[str, Callable[[RunConfig, str], GeneratorFactory]] = Parts(
    "generators", {TINY_SD: _diffusion, RETRIEVAL: _retrieval}
)


def name_problems(config: RunConfig) -> Iterator[str]:
    """Yield a sentence for each unknown name in the settings; loads nothing."""
    prompting, generation = config.prompting, config.generation
    yield from _name_problems(
        "prompting.captioner", prompting.captioner, CAPTIONERS, EXAMPLE_CAPTIONER
    )
    yield from _name_problems(
        "prompting.rewriter", prompting.rewriter, (*REWRITERS, ENDPOINT), EXAMPLE_REWRITER
    )
    yield from _name_problems(
        "generation.generator",
        generation.generator,
        GENERATORS,
        STABLE_DIFFUSION_15,
        index_file="model_index.json",
    )
    if generation.generator == RETRIEVAL:
        if not generation.retrieval_folder:
            yield "generation.retrieval_folder is required with generation.generator = retrieval"
        else:
            yield from path_problems("generation.retrieval_folder", generation.retrieval_folder)
        yield from path_problems("generation.retrieval_model", generation.retrieval_model)
    if generation.condition == WITH_EDGES:
        yield from path_problems("generation.controlnet", generation.controlnet)


def path_problems(key: str, name: str) -> Iterator[str]:
    if not name:
        yield f"{key} must not be empty; use auto"
    elif hub.looks_like_path(name) and not expand(name).exists():
        yield f"{key}: there is no folder {name}"


def _name_problems(
    key: str, name: str, known: Iterable[str], example: str, *, index_file: str = ""
) -> Iterator[str]:
    """Yield what is wrong with a name: one of the tables, a folder or a hub id."""
    faults = list(path_problems(key, name))
    yield from faults
    if faults or name in (AUTO, *known):
        return
    place = expand(name)
    if index_file and place.is_file():
        yield f"{key}: {name} is a file; name a folder written by save_pretrained"
    elif index_file and place.is_dir() and not (place / index_file).is_file():
        yield (
            f"{key}: the folder {name} has no {index_file}; name one written by save_pretrained of "
            "a diffusers pipeline"
        )
    elif not place.exists() and "/" not in name:
        yield (
            f"{key} must be {AUTO}, {', '.join(known)}, an existing folder, or a hub id such as "
            f"{example}; got {name!r}"
        )


def with_backends_chosen(config: RunConfig, device: str) -> RunConfig:
    """Return the settings with "auto" resolved for the backends, their dtypes, steps and batch."""
    captioner, rewriter = config.prompting.captioner, config.prompting.rewriter
    generator = config.generation.generator
    if generator == AUTO:
        usable = device.startswith("cuda") and stable_diffusion_is_here()
        generator = STABLE_DIFFUSION_15 if usable else TINY_SD
    dtype = image_dtype_name(config.generation.dtype, device)
    config = replace(
        config,
        generation=replace(config.generation, generator=generator, dtype=dtype).decided(),
        prompting=replace(
            config.prompting,
            captioner=VISIBLE_ATTRIBUTES if captioner == AUTO else captioner,
            rewriter=VISIBLE_ATTRIBUTES if rewriter == AUTO else rewriter,
            dtype=dtype_name(config.prompting.dtype, device),
        ),
        adaptation=replace(
            config.adaptation,
            mixed_precision=adaptation_precision(config.adaptation.mixed_precision, device),
        ),
    )
    if config.generation.batch_size != AUTO:
        return config
    factory = _generator(config, device)
    return _with_batch(config, getattr(factory, "batch_size", UNKNOWN))


def with_batch_tried(config: RunConfig, device: str) -> RunConfig:
    """Return the settings with a batch size that a GPU has room for; loads the generator.

    Raises:
        ModelError, GenerationError: it cannot be loaded, or not a single image fits.
    """
    from gendataagent.generation.diffusion import DiffusionFactory

    factory = _generator(config, device)
    if not isinstance(factory, DiffusionFactory):
        return config
    return _with_batch(config, tried_batch(factory))


def _with_batch(config: RunConfig, batch_size: int) -> RunConfig:
    return replace(config, generation=replace(config.generation, batch_size=batch_size))


def build_backends(config: RunConfig) -> Backends:
    """Return the backends that the settings name; models are loaded at their first use.

    Raises:
        ConfigError: a name is unknown, or an endpoint's address cannot work.
        ModelError: an optional package or the bundled generator is missing.
    """
    problems = list(name_problems(config))
    if problems:
        raise ConfigError(problems)
    device = resolve_device(config.device)
    config = with_backends_chosen(config, device)
    captioner, rewriter = config.prompting.captioner, config.prompting.rewriter
    generator = build_generator(config)
    executor = executor_of(config.generation, device)
    return Backends(
        captioner=(
            CAPTIONERS[captioner]()
            if captioner in CAPTIONERS
            else _image_to_text(config, device, executor)
        ),
        rewriter=(
            REWRITERS[rewriter]()
            if rewriter in REWRITERS
            else _language_model(config, device, executor)
        ),
        generator=generator,
        executor=_cached(executor, config.generation, generator, device),
    )


def checked(backends: Backends) -> Backends:
    """Return the backends, each part checked that can be.

    Raises:
        ModelError: a model is missing, incomplete or of the wrong kind.
        ConfigError: a setting does not suit it.
    """
    for part in (backends.captioner, backends.rewriter, backends.generator):
        if isinstance(part, Checked):
            part.check()
    return backends


def build_generator(config: RunConfig) -> GeneratorFactory:
    """Return the generator that the settings name; its weights are loaded at its first use."""
    device = resolve_device(config.device)
    config = with_backends_chosen(config, device)
    return _generator(config, device)


def _generator(config: RunConfig, device: str) -> GeneratorFactory:
    return GENERATORS.get(config.generation.generator, _diffusion)(config, device)


def with_adapted(backends: Backends, config: RunConfig, folder: Path) -> Backends:
    """Return `backends` with their generator adapted; captioner and rewriter are shared.

    Its image cache is another one, which must not find the images of the plain generator; the
    workers are the same, as captioner and rewriter use them too.

    Args:
        folder: of the adaptation that the settings describe.
    """
    device = resolve_device(config.device)
    adapted = replace(config, generation=config.with_adaptation(str(folder)).generation)
    return _with_generator(backends, with_backends_chosen(adapted, device), device)


def with_decided_generator(backends: Backends, config: RunConfig) -> Backends:
    """Return `backends` with the generator of settings that have been decided since."""
    return _with_generator(backends, config, resolve_device(config.device))


def _with_generator(backends: Backends, config: RunConfig, device: str) -> Backends:
    generator, before = _generator(config, device), backends.executor
    inner = before.inner if isinstance(before, CachingExecutor) else before
    executor = _cached(inner, config.generation, generator, device)
    return replace(backends, generator=generator, executor=executor)


def _cached(
    executor: Executor, settings: GenerationConfig, generator: GeneratorFactory, device: str
) -> Executor:
    """Return the executor with the image cache of the settings, if there is one."""
    if not settings.image_cache:
        return executor
    depends_on: tuple[object, ...] = (
        generator.describe(), settings.size_px, settings.scheduler, settings.dtype, device,
        settings.batch_size, settings.channels_last, settings.fuse_qkv, settings.compile,
        settings.decoder, settings.merge_tokens, environment(device),
    )  # fmt: skip
    folder = expand(settings.image_cache)
    has_edges = settings.condition == WITH_EDGES
    return CachingExecutor(
        executor,
        folder,
        stamp=repr(depends_on),
        reads_source=has_edges,
        reads_class=bool(settings.class_loras),
    )


def stable_diffusion_is_here() -> bool:
    """Return whether SD 1.5, at the commit used here, is on this machine."""
    from gendataagent.generation.diffusion import DiffusionSpec
    from gendataagent.generation.diffusion.mirrors import with_mirrors

    sources = with_mirrors(DiffusionSpec(model=STABLE_DIFFUSION_15).source)
    return any(hub.is_here(source) for source in sources)
