"""Whether the parts of a pipeline, each of them whole, belong together.

Text encoder, denoiser and VAE may come from different models. Where one gives numbers of another
size than the next one takes, the first image would fail, after the training before it.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any

import torch

from gendataagent.core.errors import ModelError

_PACKED = 4  # latent pixels that some transformers take as one


def check_fit(pipeline: Any, name: str) -> None:
    """Raise unless the parts of a pipeline fit; its networks may be without memory.

    Args:
        name: of the model, for error messages.

    Raises:
        ModelError: naming both parts, and the size of each.
    """
    if fault := next(_faults(pipeline), None):
        raise ModelError(
            f"generation.generator: the parts of {name} are of different models: {fault}; "
            "download the complete model again"
        )


def _faults(pipeline: Any) -> Iterator[str]:
    for number in ("", "_2", "_3"):
        words = getattr(pipeline, f"tokenizer{number}", None)
        encoder = getattr(pipeline, f"text_encoder{number}", None)
        if words is not None and encoder is not None:
            yield from _word_faults(words, encoder, number)
    denoiser = getattr(pipeline, "unet", None) or getattr(pipeline, "transformer", None)
    if denoiser is None:
        return
    kind = type(denoiser).__name__
    takes = denoiser.config.get("in_channels")
    gives = getattr(getattr(pipeline, "vae", None), "config", {}).get("latent_channels")
    if isinstance(takes, int) and isinstance(gives, int):
        given = gives * _PACKED if hasattr(pipeline, "_pack_latents") else gives
        if given != takes:
            yield f"the vae gives {given} channels, the {kind} takes {takes}"
    yield from _text_faults(pipeline, denoiser.config, kind)


def _word_faults(words: Any, encoder: Any, number: str) -> Iterator[str]:
    known, longest = (getattr(encoder.config, key, None)
                      for key in ("vocab_size", "max_position_embeddings"))  # fmt: skip
    if isinstance(known, int) and len(words) > known:
        yield f"tokenizer{number} has {len(words)} words, text_encoder{number} {known}"
    is_padded = type(encoder).__name__.startswith("CLIP")  # to the length of the tokenizer
    if is_padded and isinstance(longest, int) and words.model_max_length > longest:
        yield (
            f"tokenizer{number} makes {words.model_max_length} tokens, text_encoder{number} takes "
            f"{longest}"
        )


def _text_faults(pipeline: Any, config: Any, kind: str) -> Iterator[str]:
    """Yield where an encoded prompt has another width than the denoiser takes."""
    try:
        with torch.no_grad():
            encoded = pipeline.encode_prompt("a", **_arguments(pipeline))
    except Exception:  # a pipeline whose prompts take more: its first image shows it
        return
    found = [part for part in encoded if isinstance(part, torch.Tensor)]
    widths = {dim: next((t.shape[-1] for t in found if t.dim() == dim), None) for dim in (3, 2)}
    wanted = config.get("cross_attention_dim") or config.get("joint_attention_dim")
    for gives, takes in ((widths[3], wanted), (widths[2], config.get("pooled_projection_dim"))):
        if (
            isinstance(takes, int)
            and gives not in (None, takes)
            and not config.get("encoder_hid_dim")
        ):
            yield f"the text encoders give {gives} numbers a token, the {kind} takes {takes}"


def _arguments(pipeline: Any) -> dict[str, Any]:
    given = {
        "prompt_2": None, "prompt_3": None, "device": torch.device("meta"),
        "num_images_per_prompt": 1, "do_classifier_free_guidance": False,
    }  # fmt: skip
    known = inspect.signature(pipeline.encode_prompt).parameters
    return {key: value for key, value in given.items() if key in known}
