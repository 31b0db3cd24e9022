"""What a captioner, a rewriter, a generator and an executor must do: one batched method each.

Contract of every batched method: as many results as items, in the same order; an empty input gives
an empty result; the result for an item depends on that item and its seed alone, never on its
neighbours, the batch size or the order of calls.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from PIL import Image

from gendataagent.core.records import ModelDescription


@dataclass(frozen=True, slots=True, kw_only=True)
class CaptionRequest:
    """One real image (RGB, upright) to describe, and the seed for any choice of words."""

    image: Image.Image
    class_name: str
    seed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RewriteRequest:
    """One caption (without the "A photo of ..." part) to change in one way per seed.

    Args:
        class_names: every class of the data; a rewrite must not speak of another one.
    """

    caption: str
    class_name: str
    seeds: tuple[int, ...]
    class_names: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Rewrite:
    """One changed caption.

    Args:
        by: name of what wrote it, where a rewriter has more than one way ("" = the rewriter).
        refusals: why earlier replies for it were not taken, one short reason each.
    """

    text: str
    by: str = ""
    refusals: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class RenderRequest:
    """One image to make from a real one.

    Args:
        source: the real image, RGB, any size; the generator brings it to its own size.
        strength: share of the noise schedule put on the source latent, in (0, 1]; a scheduler
            executes floor(num_inference_steps * strength) steps (SD 3 and Flux round up).
    """

    source: Image.Image
    prompt: str
    negative_prompt: str
    seed: int
    strength: float
    guidance_scale: float
    num_inference_steps: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Rendered:
    """The image made for a request, or the short reason why there is none to train on.

    Exactly one way to be usable: `rejected_by` is None and `image` is there. A refused image may
    still be present so that a person can look at it.
    """

    image: Image.Image | None
    rejected_by: str | None = None


class Captioner(Protocol):
    """Says what is on a image, in words a generator understands."""

    @property
    def description(self) -> ModelDescription:
        """Which model it is."""
        ...

    def caption(self, requests: Sequence[CaptionRequest]) -> list[str]:
        """Return one caption per image, without class prefix, e.g. "brown, on green grass"."""
        ...

    def release(self) -> None:
        """Let go of loaded models, to free memory; they are loaded again when needed."""
        ...


class PromptRewriter(Protocol):
    """Makes short, subtle changes of a caption that keep the subject."""

    @property
    def description(self) -> ModelDescription:
        """Which model it is."""
        ...

    def rewrite(self, requests: Sequence[RewriteRequest]) -> list[tuple[Rewrite, ...]]:
        """Return, per request, one changed caption per seed in `request.seeds`."""
        ...

    def release(self) -> None:
        """Let go of loaded models, to free memory; they are loaded again when needed."""
        ...


class ImageGenerator(Protocol):
    """Turns a real image and a prompt into a new image."""

    @property
    def description(self) -> ModelDescription:
        """Which model it is."""
        ...

    def render(self, requests: Sequence[RenderRequest]) -> list[Rendered]:
        """Return one `Rendered` per request."""
        ...


class Executor(Protocol):
    """Runs render tasks somewhere: in this process, in workers, on other machines.

    Workers cannot be handed a loaded pipeline, so they get a picklable factory and build their own.
    """

    def map(
        self,
        factory: Callable[[], ImageGenerator],
        tasks: Iterable[Sequence[RenderRequest]],
    ) -> Iterator[list[Rendered]]:
        """Yield the result of each task, in task order, as soon as it is there."""
        ...

    def release(self) -> None:
        """Let go of what is kept between calls, to free memory."""
        ...
