"""An image-to-text model of transformers with its processor, checked before it is used.

`load_parts` takes a second and finds nearly every fault; `load_weights` takes the memory.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from gendataagent.core import hub
from gendataagent.core.completeness import Lacks, check_auto, check_finite
from gendataagent.core.errors import ModelError
from gendataagent.core.hub import ModelSource

SETTING = "prompting.captioner"
KIND = "an image-to-text model of transformers"
INSTEAD = "Or use captioner visible-attributes, which needs no model."
EXAMPLES = "Salesforce/blip2-opt-2.7b, Salesforce/blip-image-captioning-base, microsoft/git-base"

# Tables of embeddings are padded to round sizes, and some models keep a few tokens beyond theirs.
_TOKENS_BEYOND = 64
_SHARE_OF_TABLE = 0.9
_UNUSED = ".pooler."  # captions are made from all patches; older files of vision encoders lack it


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """Everything of a captioner but its weights.

    Args:
        processor: makes the model's inputs from image and text; None where a model has only an
            image processor and a tokenizer (VisionEncoderDecoder).
        chat_template: of a model that answers questions, else None.
    """

    config: Any
    processor: Any | None
    image_processor: Any
    tokenizer: Any
    chat_template: str | None


def load_parts(source: ModelSource) -> Parts:
    """Return config, processor and tokenizer.

    Raises:
        ModelError: no captioner, incomplete, or a tokenizer of another model.
    """
    hub.check(source)
    transformers = _quiet_transformers()
    config = hub.load(source, transformers.AutoConfig.from_pretrained)
    _check_kind(source, config)
    parts: Parts = hub.load(
        source, lambda place, **options: _read_parts(transformers, config, place, options)
    )
    _check_tokenizer(source, parts)
    return parts


def check_weights(source: ModelSource, parts: Parts) -> None:
    """Raise `ModelError` if the files lack tensors, judged by their headers."""
    transformers = _quiet_transformers()
    auto = transformers.AutoModelForImageTextToText
    check_auto(source, auto, parts.config, needed=lambda _, lacks: lacks.but_for(_is_unused))


def load_weights(
    source: ModelSource, parts: Parts, *, device: torch.device, dtype: torch.dtype
) -> Any:
    """Return the model on its device, in eval mode.

    Raises:
        ModelError: incomplete, weights of another model, no memory.
    """
    transformers = _quiet_transformers()

    def read(place: str, **options: Any) -> Any:
        model, report = transformers.AutoModelForImageTextToText.from_pretrained(
            place,
            config=parts.config,
            dtype=dtype,
            use_safetensors=True,
            ignore_mismatched_sizes=True,  # to name them
            output_loading_info=True,
            **options,
        )
        lacks = Lacks.of_report(model, report).but_for(_is_unused)
        if lacks:
            where = f"the weights of {source.name!r}"
            raise ModelError(f"{source.setting}: {lacks.sentence(where)}")
        check_finite(f"{source.setting}: {source.name}", model)
        return model.to(device).eval().requires_grad_(False)

    return hub.load(source, read)


def _is_unused(tensor: str) -> bool:
    return _UNUSED in f".{tensor}"


def _read_parts(transformers: Any, config: Any, place: str, options: dict[str, Any]) -> Parts:
    # by name: the processors of torchvision give other pixels, and it may not be installed
    pixels = {**options, "backend": "pil"}
    processor = transformers.AutoProcessor.from_pretrained(place, **pixels)
    is_complete = hasattr(processor, "image_processor") and hasattr(processor, "tokenizer")
    if is_complete:
        image_processor, tokenizer = processor.image_processor, processor.tokenizer
    else:
        # transformers before 5.18 exports it only where torchvision is installed
        from transformers.models.auto.image_processing_auto import AutoImageProcessor

        image_processor = AutoImageProcessor.from_pretrained(place, **pixels)
        tokenizer = transformers.AutoTokenizer.from_pretrained(place, **options)
    template = getattr(processor, "chat_template", None) or getattr(
        tokenizer, "chat_template", None
    )
    return Parts(
        config=config,
        processor=processor if is_complete else None,
        image_processor=image_processor,
        tokenizer=tokenizer,
        chat_template=template if is_complete else None,
    )


def _check_kind(source: ModelSource, config: Any) -> None:
    from transformers.models.auto import modeling_auto

    if config.model_type in modeling_auto.MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES:
        return
    if getattr(config, "auto_map", None):  # a model with its own code, which may caption
        return
    raise ModelError(
        f"{source.setting}: {source.name!r} is a model of type {config.model_type!r}, which does "
        f"not caption images; set {KIND}, such as {EXAMPLES}. {INSTEAD}"
    )


def _check_tokenizer(source: ModelSource, parts: Parts) -> None:
    """Raise if the tokenizer has more or far fewer tokens than the model."""
    table = getattr(parts.config.get_text_config(decoder=True), "vocab_size", None)
    if table is None:
        return
    tokens = max(parts.tokenizer.get_vocab().values(), default=-1) + 1
    if _SHARE_OF_TABLE * table <= tokens <= table + _TOKENS_BEYOND:
        return
    raise ModelError(
        f"{source.setting}: the tokenizer of {source.name!r} has {tokens} tokens but its model "
        f"{table}, so it belongs to another model; download the complete model again. {INSTEAD}"
    )


def _quiet_transformers() -> Any:
    """Return transformers without its messages and progress bars about loading."""
    import transformers

    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    return transformers
