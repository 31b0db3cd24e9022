"""The interfaces of captioner, rewriter, generator and executor: one batched method each.

Contract of every batched method: one result per item, in the same order; an empty input gives an
empty result; the result for an item depends on that item and its seed alone, never on its
neighbours, the batch size or the order of calls.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, Self

from PIL import Image

from gendataagent.core.png import opened
from gendataagent.core.records import ModelDescription

if TYPE_CHECKING:
    from torch import Tensor


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
        class_names: every class of the data; a rewrite must not name another one.
        contexts: captions of all images of the round, for the rewriter that draws from them.
    """

    caption: str
    class_name: str
    seeds: tuple[int, ...]
    class_names: tuple[str, ...] = ()
    contexts: Sequence[str] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Rewrite:
    """One changed caption.

    Args:
        by: name of what wrote it, for a rewriter with a fallback ("" = the rewriter itself).
        refusals: why earlier replies were rejected, one short reason each.
    """

    text: str
    by: str = ""
    refusals: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Feedback:
    """How a classifier steers the denoising steps of one image, see `generation.feedback`.

    Args:
        criterion: name in `generation.feedback.CRITERIA`.
        scale: root mean square of each step's change of the clean latent.
        label: class of the image.
        views: over how many views of the image the gradient is summed.
        steps: shares of the executed steps between which steps are steered: (first, last).
        decoder: what decodes the clean latent; the generator was built for it.
        guide: SHA-256 of the classifier's weights file.
        guide_file: where that file is now; not part of the image's identity.
    """

    criterion: str
    scale: float
    label: int
    views: int
    steps: tuple[float, float]
    decoder: str
    guide: str
    guide_file: str

    @property
    def identity(self) -> tuple[object, ...]:
        """What the image depends on."""
        steered = (self.criterion, self.scale, self.label, self.views, self.steps)
        return (*steered, self.decoder, self.guide)


class Guide(Protocol):
    """The classifier that steers, without its weights; picklable, so that workers can have it."""

    def logits(self, images_BCHW: Tensor, weights: Mapping[str, Tensor]) -> Tensor:
        """Return logits [B, C] of images in [0, 1] of any size, differentiable.

        Args:
            weights: state dict, on the device of the images.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class RenderRequest:
    """One image to make from a real one.

    Args:
        source: the real image, RGB, any size; the generator resizes it.
        strength: share of the noise schedule put on the source latent, in (0, 1]; a scheduler
            executes floor(num_inference_steps * strength) steps, at least 1.
        feedback: how a classifier steers it; None = not at all.
        variant: how many images of the same source in the same round come before it; only a
            generator that finds images needs it, for others the seed says enough.
        from_text: whether it is made from text alone, at strength 1; then it must not depend on
            `source`, but for its edges where there is a ControlNet. Only asked of a generator whose
            factory has `makes_from_text = True`.
        class_name: class of the image; only a generator with weights for each class needs it.
    """

    source: Image.Image
    prompt: str
    negative_prompt: str
    seed: int
    strength: float
    guidance_scale: float
    num_inference_steps: int
    feedback: Feedback | None = None
    variant: int = 0
    from_text: bool = False
    class_name: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rendered:
    """The image made for a request, or a short reason why it cannot be used.

    Usable means: `rejected_by` is None and `image` is present. A rejected image may be present too,
    so that it can be inspected.

    Args:
        png: the image as a PNG file, if it was encoded already: in the process that made it.
    """

    image: Image.Image | None
    rejected_by: str | None = None
    png: bytes | None = None

    @classmethod
    def of_png(cls, png: bytes, rejected_by: str | None) -> Self:
        """Return the result of an image in a PNG file, which is decoded when it is used."""
        return cls(image=opened(png), rejected_by=rejected_by, png=png)


class Captioner(Protocol):
    """Describes an image in words that a generator understands."""

    @property
    def description(self) -> ModelDescription:
        """Which model it is."""
        ...

    def caption(self, requests: Sequence[CaptionRequest]) -> list[str]:
        """Return one caption per image, without class prefix, e.g. "brown, on green grass"."""
        ...

    def release(self) -> None:
        """Free loaded models; they are loaded again when needed."""
        ...


class PromptRewriter(Protocol):
    """Makes small changes to a caption that keep its subject."""

    @property
    def description(self) -> ModelDescription:
        """Which model it is."""
        ...

    def rewrite(self, requests: Sequence[RewriteRequest]) -> list[tuple[Rewrite, ...]]:
        """Return, per request, one changed caption per seed in `request.seeds`."""
        ...

    def release(self) -> None:
        """Free loaded models; they are loaded again when needed."""
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
    """Runs render tasks: in this process, in workers, on other machines.

    A loaded pipeline cannot be sent to a worker, so workers get a picklable factory.
    """

    def map(
        self,
        factory: Callable[[], ImageGenerator],
        tasks: Iterable[Sequence[RenderRequest]],
    ) -> Iterator[list[Rendered]]:
        """Yield the result of each task, in task order, as soon as it is finished."""
        ...

    def release(self) -> None:
        """Free what is kept between calls."""
        ...
