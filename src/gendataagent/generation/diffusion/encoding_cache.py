"""Caches for a pipeline's frozen encoders: latents of source images, embeddings of texts.

Each source gets several images, in later rounds often again. Its latent distribution is cached by a
hash of its pixels. The distribution, not a sample: each image still samples with its own seed and
stays the same to the bit. Texts are cached one by one, so that the negative prompt, which all
images share, is encoded once.
"""

from __future__ import annotations

import hashlib
import inspect
from collections import OrderedDict
from collections.abc import Hashable, Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import torch

MIB = 1 << 20
LATENT_CACHE_BYTES = 256 * MIB  # about 4,000 sources of SD 1.5 in half precision
PROMPT_CACHE_BYTES = 64 * MIB  # about 500 prompts of SD 1.5
# Texts are always encoded in batches of this size, padded by repeating the last: matrix kernels
# round differently for other batch sizes.
PROMPT_BATCH_SIZE = 8

Tensors = tuple[torch.Tensor, ...]


class EncodingCache:
    """Least-recently-used cache of tensors in main memory.

    Attributes:
        hits: lookups that found an entry.
        misses: lookups that found none.
    """

    def __init__(self, max_bytes: int) -> None:
        self.hits = self.misses = 0
        self._max_bytes, self._bytes = max_bytes, 0
        self._entries: OrderedDict[Hashable, Tensors] = OrderedDict()

    def get(self, key: Hashable) -> Tensors | None:
        """Return the tensors of a key, on the CPU, or None."""
        entry = self._entries.get(key)
        if entry is None:
            self.misses += 1
            return None
        self.hits += 1
        self._entries.move_to_end(key)
        return entry

    def put(self, key: Hashable, tensors: Tensors) -> None:
        """Store copies of the tensors of a new key, unless they alone exceed `max_bytes`."""
        entry = tuple(tensor.detach().to("cpu", copy=True) for tensor in tensors)
        if _nbytes(entry) > self._max_bytes:
            return
        self._entries[key] = entry
        self._bytes += _nbytes(entry)
        while self._bytes > self._max_bytes:
            self._bytes -= _nbytes(self._entries.popitem(last=False)[1])

    def __len__(self) -> int:
        return len(self._entries)


def _nbytes(tensors: Tensors) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


class CachedImageEncoder:
    """Replaces `vae.encode` and encodes each image once.

    Pipelines with one torch generator per image encode one image at a time. Other calls go to the
    VAE unchanged.
    """

    def __init__(self, vae: Any, cache: EncodingCache) -> None:
        self._encode, self._vae, self._cache = vae.encode, vae, cache
        self._distribution: type | None = None

    def __call__(self, x: torch.Tensor, *args: Any, **options: Any) -> Any:
        if args or options or len(x) != 1:
            return self._encode(x, *args, **options)
        key = (tuple(x.shape), x.dtype, self._vae.dtype, _content_hash(x))
        found = self._cache.get(key)
        if found is not None:
            return self._as_output(found[0].to(x.device))
        output = self._encode(x)
        if hasattr(output, "latent_dist"):
            self._distribution = type(output.latent_dist)
            self._cache.put(key, (output.latent_dist.parameters,))
        elif hasattr(output, "latents"):  # AutoencoderTiny has no distribution
            self._cache.put(key, (output.latents,))
        return output

    def _as_output(self, tensor: torch.Tensor) -> SimpleNamespace:
        if self._distribution is None:
            return SimpleNamespace(latents=tensor)
        return SimpleNamespace(latent_dist=self._distribution(tensor))


def _content_hash(tensor: torch.Tensor) -> bytes:
    values = tensor.detach().to("cpu").contiguous().view(torch.uint8).numpy()
    return hashlib.blake2b(values.tobytes(), digest_size=16).digest()


class CachedPromptEncoder:
    """Replaces `pipeline.encode_prompt` and encodes each text once.

    Stable Diffusion (1 to 3, XL) returns (embeddings of the prompts, of the negative prompts), SDXL
    and SD 3 followed by the pooled ones, with one row per text, and encodes both alike. The first
    call tests whether a pipeline does so. Any other pipeline encodes its texts itself, and so does
    a call without guidance, which has no negative prompt to share.
    """

    def __init__(self, pipeline: Any, cache: EncodingCache) -> None:
        self._encode, self._pipeline, self._cache = pipeline.encode_prompt, pipeline, cache
        self._signature = inspect.signature(self._encode)
        self._is_exact: bool | None = None

    def __call__(self, *args: Any, **options: Any) -> Any:
        bound = self._signature.bind(*args, **options)
        bound.apply_defaults()
        given = dict(bound.arguments)
        prompts, negatives = given.pop("prompt", None), given.pop("negative_prompt", None)
        guided = given.pop("do_classifier_free_guidance", None)
        cacheable = (
            _are_texts(prompts)
            and _are_texts(negatives)
            and guided is True
            and all(isinstance(value, Hashable) for value in given.values())
        )
        if cacheable and self._is_exact is None:
            self._is_exact = self._reproduces_pipeline(prompts[0], negatives[0], given)
        if not cacheable or not self._is_exact:
            return self._encode(*args, **options)
        return self._cached_output(prompts, negatives, given)

    def _reproduces_pipeline(self, prompt: str, negative: str, given: Mapping[str, Any]) -> bool:
        """Return whether cached rows equal the pipeline's own, to the bit."""
        expected = self._encode(
            prompt=[prompt] * PROMPT_BATCH_SIZE,
            negative_prompt=[negative] * PROMPT_BATCH_SIZE,
            do_classifier_free_guidance=True,
            **given,
        )
        unguided = self._encode(
            prompt=[prompt] * PROMPT_BATCH_SIZE, do_classifier_free_guidance=False, **given
        )
        if not (
            isinstance(unguided, tuple)
            and len(unguided) in (2, 4)
            and len(expected) == len(unguided)
            and all(tensor is None for tensor in unguided[1::2])
            and all(_has_row_per_text(tensor) for tensor in unguided[::2])
        ):
            return False
        cached = self._cached_output([prompt], [negative], given)
        return all(torch.equal(one, other[:1]) for one, other in zip(cached, expected, strict=True))

    def _cached_output(
        self, prompts: Sequence[str], negatives: Sequence[str], given: Mapping[str, Any]
    ) -> Tensors:
        rows = self._rows([*prompts, *negatives], given)
        of_prompts, of_negatives = rows[: len(prompts)], rows[len(prompts) :]
        device = self._pipeline._execution_device
        return tuple(
            torch.cat([row[slot].to(device) for row in half])
            for slot in range(len(rows[0]))
            for half in (of_prompts, of_negatives)
        )

    def _rows(self, texts: Sequence[str], given: Mapping[str, Any]) -> list[Tensors]:
        state = (self._pipeline.dtype, *sorted((n, v) for n, v in given.items() if v is not None))
        found: dict[str, Tensors | None] = {
            text: self._cache.get((text, state)) for text in dict.fromkeys(texts)
        }
        missing = [text for text, row in found.items() if row is None]
        for start in range(0, len(missing), PROMPT_BATCH_SIZE):
            batch = missing[start : start + PROMPT_BATCH_SIZE]
            padded = [*batch, *[batch[-1]] * (PROMPT_BATCH_SIZE - len(batch))]
            encoded = self._encode(prompt=padded, do_classifier_free_guidance=False, **given)[::2]
            for i, text in enumerate(batch):
                found[text] = row = tuple(tensor[i : i + 1] for tensor in encoded)
                self._cache.put((text, state), row)
        return [entry for text in texts if (entry := found[text]) is not None]


def _are_texts(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(text, str) for text in value)


def _has_row_per_text(value: Any) -> bool:
    return isinstance(value, torch.Tensor) and len(value) == PROMPT_BATCH_SIZE
