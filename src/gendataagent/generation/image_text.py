"""An image-text encoder of transformers, such as a CLIP: how well images fit texts.

Letters in tensor names: N images, B images of a batch, T texts, D features.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import normalize

from gendataagent.core import hub
from gendataagent.core.completeness import Lacks, check_auto, check_finite
from gendataagent.core.devices import empty_cache, memory_errors, repeatable_kernels
from gendataagent.core.errors import ModelError
from gendataagent.core.hub import ModelSource

_BATCH = 32  # always as many, padded: matrix kernels round differently for other batch sizes
_LESS_MEMORY = "name a smaller model, or another device"

ImageAt = Callable[[int], Image.Image]
"""Returns image number i, RGB."""


def text_model_source(setting: str, name: str, revision: str) -> ModelSource:
    """Return where an image-text encoder comes from.

    Args:
        setting: the key that names it.
    """
    return ModelSource(
        setting=setting,
        kind="an image-text encoder of transformers",
        name=name,
        revision=revision,
        instead="For example laion/CLIP-ViT-B-32-laion2B-s34B-b79K or "
        "google/siglip-base-patch16-224.",
    )


def check_text_model(source: ModelSource) -> None:
    """Raise `ModelError` for every fault that shows without loading weights."""
    hub.check(source)
    transformers = _quiet_transformers()
    config = hub.load(source, transformers.AutoConfig.from_pretrained)
    _check_kind(source, config)
    check_auto(source, transformers.AutoModel, config)


class ImageTextEncoder:
    """Maps images and texts into one space; loaded at once, in float32.

    Raises:
        ModelError: it cannot be loaded, is of another kind, or does not fit into the memory.
    """

    def __init__(self, source: ModelSource, device: torch.device) -> None:
        self._source, self._device = source, device
        transformers = _quiet_transformers()
        config = hub.load(source, transformers.AutoConfig.from_pretrained)
        _check_kind(source, config)
        self._processor = hub.load(source, self._read_processor)
        with memory_errors(f"loading {source.name}", _LESS_MEMORY):
            self._model = hub.load(source, self._read_model)
        self._text_length = int(config.text_config.max_position_embeddings)

    def probabilities(self, image_at: ImageAt, count: int, texts: Sequence[str]) -> Tensor:
        """Return p(text | image) among the texts for `count` images, [N, T], on the CPU."""
        texts_TD = self._texts(texts)
        scale: Tensor = self._model.logit_scale.detach().float().exp()
        cosines_NT = self.images(image_at, count) @ texts_TD.T
        return (scale.cpu() * cosines_NT).softmax(dim=1)

    def images(self, image_at: ImageAt, count: int) -> Tensor:
        """Return the features of `count` images, [N, D], of length 1, on the CPU."""

        def batch(rows: Sequence[int]) -> Tensor:
            inputs = self._processor(images=[image_at(i) for i in rows], return_tensors="pt")
            return _features(self._model.get_image_features(**inputs.to(self._device)))

        return self._encoded(count, batch)

    def release(self) -> None:
        """Free the memory; the encoder cannot be used any more."""
        del self._model
        empty_cache()

    def _texts(self, texts: Sequence[str]) -> Tensor:
        def batch(rows: Sequence[int]) -> Tensor:
            inputs = self._processor(
                text=[texts[i] for i in rows], return_tensors="pt", padding="max_length",
                truncation=True, max_length=self._text_length,
            )  # fmt: skip
            return _features(self._model.get_text_features(**inputs.to(self._device)))

        return self._encoded(len(texts), batch)

    def _encoded(self, count: int, encode: Callable[[Sequence[int]], Tensor]) -> Tensor:
        parts = []
        with torch.inference_mode(), repeatable_kernels(), memory_errors("encoding", _LESS_MEMORY):
            for start in range(0, count, _BATCH):
                rows = list(range(start, min(start + _BATCH, count)))
                padded = [*rows, *[rows[-1]] * (_BATCH - len(rows))]
                parts.append(normalize(encode(padded).float(), dim=1)[: len(rows)].cpu())
        return torch.cat(parts)

    def _read_model(self, place: str, **options: Any) -> Any:
        model, report = _quiet_transformers().AutoModel.from_pretrained(
            place,
            dtype=torch.float32,
            use_safetensors=True,
            ignore_mismatched_sizes=True,  # to name them
            output_loading_info=True,
            **options,
        )
        if lacks := Lacks.of_report(model, report):
            raise ModelError(
                f"{self._source.setting}: {lacks.sentence(f'the weights of {self._source.name!r}')}"
            )
        check_finite(f"{self._source.setting}: {self._source.name}", model)
        return model.to(self._device).eval().requires_grad_(False)

    def _read_processor(self, place: str, **options: Any) -> Any:
        # by name: the processors of torchvision give other pixels, and it may not be installed
        return _quiet_transformers().AutoProcessor.from_pretrained(place, backend="pil", **options)


def _features(output: Any) -> Tensor:
    """Return the features [B, D]; transformers before 5 returns them alone."""
    found = output if isinstance(output, Tensor) else output.pooler_output
    assert isinstance(found, Tensor)
    return found


def _check_kind(source: ModelSource, config: Any) -> None:
    from transformers.models.auto import modeling_auto

    known = modeling_auto.MODEL_FOR_ZERO_SHOT_IMAGE_CLASSIFICATION_MAPPING_NAMES
    if config.model_type not in known or not hasattr(config, "text_config"):
        raise ModelError(
            f"{source.setting}: {source.name!r} is a model of type {config.model_type!r}, which "
            f"does not compare images with texts; set {source.kind}. {source.instead}"
        )


def _quiet_transformers() -> Any:
    """Return transformers without its messages and progress bars about loading."""
    import transformers

    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    return transformers
