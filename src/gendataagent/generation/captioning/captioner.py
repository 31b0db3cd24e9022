"""Captions by BLIP-2, or any other image-to-text model of transformers.

Images become model inputs one by one; inputs of one layout form a batch. So no text is ever padded,
and a caption cannot depend on the other images of its batch.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from PIL import Image

from gendataagent.config import AUTO, RunConfig
from gendataagent.core import hub
from gendataagent.core.devices import BatchSize, free_memory, resolve_dtype
from gendataagent.core.errors import ImageUnreadableError, ModelError
from gendataagent.core.hub import ModelSource
from gendataagent.core.protocols import CaptionRequest
from gendataagent.core.records import ModelDescription
from gendataagent.core.text import reason_of
from gendataagent.generation.captioning.cleaning import clean_caption
from gendataagent.generation.captioning.inputs import (
    Inputs,
    Layout,
    encode,
    layout_of,
    prepare,
)
from gendataagent.generation.captioning.loading import (
    INSTEAD,
    KIND,
    SETTING,
    Parts,
    check_weights,
    load_parts,
    load_weights,
)

# Part of the key of cached captions; to be raised when the same settings give other captions.
CAPTION_VERSION = 1


@dataclass(frozen=True, slots=True)
class _Loaded:
    parts: Parts
    model: Any


class ImageToTextCaptioner:
    """Describes images with an image-to-text model, greedily: the same image, the same caption.

    Matrix kernels round differently at other batch sizes, so a batch always has `batch_size`
    images, the last one repeated where fewer are left. Batches are smaller only on a device with
    too little memory.

    Args:
        source: the model; loaded at the first caption.
        prompt: text for the model to continue; for a chat model, the question it answers (empty =
            `inputs.QUESTION`).
        max_tokens: longest answer.
        dtype: torch dtype by name; auto = float16 on a GPU, float32 on a CPU.

    Attributes:
        description: name and revision; the revision of a hub model that is not on this machine is
            known once it is loaded.
        cache_settings: what a caption depends on besides image and model.
    """

    def __init__(
        self,
        source: ModelSource,
        *,
        prompt: str = "",
        max_tokens: int = 40,
        batch_size: int = 8,
        dtype: str = AUTO,
        device: str = "cpu",
    ) -> None:
        self._source = source
        self._prompt = prompt
        self._max_tokens = max_tokens
        self._batch_size = BatchSize(
            batch_size,
            too_large="the device has not enough memory to caption a single image; name a smaller "
            "model with prompting.captioner, set prompting.dtype=float16, or name another device",
        )
        self._device = torch.device(device)
        self._dtype = resolve_dtype(dtype, self._device)
        self._loaded: _Loaded | None = None
        self.description = self._describe()
        self.cache_settings: Mapping[str, str | int] = {
            "prompt": prompt,
            "max_tokens": max_tokens,
            "dtype": str(self._dtype).removeprefix("torch."),
            "version": CAPTION_VERSION,
        }

    @classmethod
    def from_config(cls, config: RunConfig, device: str) -> ImageToTextCaptioner:
        """Return the captioner that the settings name; nothing is loaded yet."""
        settings = config.prompting
        source = ModelSource(
            setting=SETTING,
            kind=KIND,
            name=settings.captioner,
            revision=settings.captioner_revision,
            trust_remote_code=config.trust_remote_code,
            instead=INSTEAD,
        )
        return cls(
            source,
            prompt=settings.caption_prompt,
            max_tokens=settings.caption_tokens,
            batch_size=settings.batch_size,
            dtype=settings.dtype,
            device=device,
        )

    def check(self) -> None:
        """Raise `ModelError` for faults that show without loading weights, missing tensors too.

        Of a hub model config, processor and tokenizer are fetched.
        """
        if self._loaded is None:
            check_weights(self._source, load_parts(self._source))

    def caption(self, requests: Sequence[CaptionRequest]) -> list[str]:
        """Return one cleaned caption per image; "" for an image that cannot be captioned.

        Raises:
            ModelError: the model cannot be loaded, or its parts do not fit together.
            GenerationError: too little memory for a single image.
        """
        captions = [""] * len(requests)
        for made in self.caption_batches(requests):
            for position, caption in made.items():
                captions[position] = caption
        return captions

    def caption_batches(self, requests: Sequence[CaptionRequest]) -> Iterator[Mapping[int, str]]:
        """Yield position -> caption of the requests, batch by batch."""
        waiting: dict[Layout, list[tuple[int, Inputs]]] = {}
        for position, request in enumerate(requests):
            inputs = self._inputs_of(request.image, self._ready())
            if inputs is None:
                yield {position: ""}
                continue
            layout = layout_of(inputs)
            group = waiting.setdefault(layout, [])
            group.append((position, inputs))
            if len(group) >= self._batch_size.size:
                yield self._answers(waiting.pop(layout))
        for group in waiting.values():
            yield self._answers(group)

    def release(self) -> None:
        """Release the model; it is loaded again when needed."""
        self._loaded = None
        free_memory()

    def _describe(self) -> ModelDescription:
        folder = self._source.folder
        name = self._source.name if folder is None else folder.resolve().name
        return ModelDescription(name=name, revision=hub.revision_of(self._source))

    def _ready(self) -> _Loaded:
        if self._loaded is None:
            parts = load_parts(self._source)
            model = load_weights(self._source, parts, device=self._device, dtype=self._dtype)
            loaded = _Loaded(parts, model)
            self._test_on_grey_image(loaded)
            self._loaded = loaded
            self.description = self._describe()
        return self._loaded

    def _test_on_grey_image(self, loaded: _Loaded) -> None:
        """Raise unless a grey image can be captioned; later failures are then due to the image."""
        source = self._source
        try:
            inputs = encode(Image.new("RGB", (64, 64), (128, 128, 128)), loaded.parts, self._prompt)
            self._generate([inputs], loaded, max_tokens=1)
        except torch.OutOfMemoryError:
            pass  # real batches are halved until they fit
        except Exception as error:  # a dozen kinds, for parts that do not fit together
            reason = reason_of(error, 200)
            prompt = "" if self._prompt else ", or it needs a prompt: set prompting.caption_prompt"
            raise ModelError(
                f"{source.setting}: {source.name!r} cannot caption an image ({reason}). Its "
                f"processor, tokenizer and weights do not fit together{prompt}. {INSTEAD}"
            ) from error
        image_token = getattr(loaded.parts.config, "image_token_id", None)
        ids = inputs.get("input_ids")
        if ids is not None and image_token is not None and not bool((ids == image_token).any()):
            raise ModelError(
                f"{source.setting}: {source.name!r} would not see the images: its tokenizer and "
                f"processor put no image token ({image_token}) into the text. Download its newest "
                f"revision completely. {INSTEAD}"
            )

    def _inputs_of(self, image: Image.Image, loaded: _Loaded) -> Inputs | None:
        """Return the model's inputs for an image, None if it cannot be read."""
        if 0 in image.size:
            return None
        try:
            return encode(prepare(image), loaded.parts, self._prompt)
        except (ImageUnreadableError, OSError, ValueError):
            # The grey image worked, so this image is at fault; the others still get captions.
            return None

    def _answers(self, group: Sequence[tuple[int, Inputs]]) -> dict[int, str]:
        """Return position -> caption, in batches that are halved if the memory runs out."""
        loaded = self._ready()
        texts = self._batch_size.map(
            lambda batch: self._generate(batch, loaded, max_tokens=self._max_tokens),
            [inputs for _, inputs in group],
        )
        positions = [position for position, _ in group]
        return dict(zip(positions, map(clean_caption, texts), strict=True))

    @torch.inference_mode()
    def _generate(self, batch: Sequence[Inputs], loaded: _Loaded, *, max_tokens: int) -> list[str]:
        """Return the model's text for each of at most `_batch_size` inputs of one layout."""
        padded = [*batch, *[batch[-1]] * (self._batch_size.size - len(batch))]
        joined = {
            name: torch.cat([inputs[name] for inputs in padded]).to(
                self._device, self._dtype if value.is_floating_point() else value.dtype
            )
            for name, value in batch[0].items()
        }
        output_BL = loaded.model.generate(
            **joined, max_new_tokens=max_tokens, do_sample=False, num_beams=1
        )
        prompt_BL = joined.get("input_ids", joined.get("decoder_input_ids"))
        if prompt_BL is not None and torch.equal(output_BL[:, : prompt_BL.shape[1]], prompt_BL):
            output_BL = output_BL[:, prompt_BL.shape[1] :]
        texts = loaded.parts.tokenizer.batch_decode(output_BL, skip_special_tokens=True)
        return [_without_prompt(text, self._prompt) for text in texts[: len(batch)]]


def _without_prompt(text: str, prompt: str) -> str:
    """Return the text without a repetition of the prompt at its start (BLIP repeats it)."""
    words, asked = text.split(), prompt.split()
    start = [word.casefold() for word in words[: len(asked)]]
    repeats = start == [word.casefold() for word in asked]
    return " ".join(words[len(asked) :]) if asked and repeats else text
