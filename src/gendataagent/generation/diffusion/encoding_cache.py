"""Sources and texts encoded once: what the frozen parts of a pipeline made is looked up again.

Several images are made of each source, and in later rounds often of the same ones, so its latent
distribution is kept by a hash of its pixels (the distribution, not a sample: each image still draws
its own, by its own seed, and stays the same to the bit). Texts are kept one by one, so that the
negative prompt, which all images share, is encoded once.
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
LATENTS_BYTES = 256 * MIB  # some 4,000 sources of SD 1.5 in half precision
TEXTS_BYTES = 64 * MIB  # some 500 prompts of it
# Texts are encoded so many at a time, the last repeated, for the sake of equal bits: matrix kernels
# round otherwise for other batch sizes.
TEXTS_TOGETHER = 8

Row = tuple[torch.Tensor, ...]


class Kept:
    """Tensors by key, in the main memory, the least recently used dropped first.

    Attributes:
        hits: times something was found.
        misses: times it was not.
    """

    def __init__(self, max_bytes: int) -> None:
        self.hits = self.misses = 0
        self._max_bytes, self._bytes = max_bytes, 0
        self._rows: OrderedDict[Hashable, Row] = OrderedDict()

    def get(self, key: Hashable) -> Row | None:
        """Return the tensors of a key, on the CPU, or None."""
        row = self._rows.get(key)
        if row is None:
            self.misses += 1
            return None
        self.hits += 1
        self._rows.move_to_end(key)
        return row

    def put(self, key: Hashable, row: Row) -> None:
        """Keep the tensors of a new key; nothing that alone is larger than the room there is."""
        copies = tuple(tensor.detach().to("cpu", copy=True) for tensor in row)
        if _bytes_of(copies) > self._max_bytes:
            return
        self._rows[key] = copies
        self._bytes += _bytes_of(copies)
        while self._bytes > self._max_bytes:
            self._bytes -= _bytes_of(self._rows.popitem(last=False)[1])

    def __len__(self) -> int:
        return len(self._rows)


def _bytes_of(row: Row) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in row)


class LatentsOnce:
    """Takes the place of `vae.encode`: encodes each image once.

    Pipelines that are given a generator per image encode one image at a time; anything else goes
    to the VAE as it is.
    """

    def __init__(self, vae: Any, kept: Kept) -> None:
        self._encode, self._vae, self._kept = vae.encode, vae, kept
        self._distribution: type | None = None

    def __call__(self, x: torch.Tensor, *args: Any, **options: Any) -> Any:
        if args or options or len(x) != 1:
            return self._encode(x, *args, **options)
        key = (tuple(x.shape), x.dtype, self._vae.dtype, _hash_of(x))
        found = self._kept.get(key)
        if found is not None:
            return self._as_encoded(found[0].to(x.device))
        made = self._encode(x)
        if hasattr(made, "latent_dist"):
            self._distribution = type(made.latent_dist)
            self._kept.put(key, (made.latent_dist.parameters,))
        elif hasattr(made, "latents"):  # of AutoencoderTiny: they are no distribution
            self._kept.put(key, (made.latents,))
        return made

    def _as_encoded(self, tensor: torch.Tensor) -> SimpleNamespace:
        if self._distribution is None:
            return SimpleNamespace(latents=tensor)
        return SimpleNamespace(latent_dist=self._distribution(tensor))


def _hash_of(tensor: torch.Tensor) -> bytes:
    values = tensor.detach().to("cpu").contiguous().view(torch.uint8).numpy()
    return hashlib.blake2b(values.tobytes(), digest_size=16).digest()


class TextsOnce:
    """Takes the place of `pipeline.encode_prompt`: encodes each text once.

    Stable Diffusion (1 to 3, XL) returns (of the prompts, of the negative prompts) or that twice,
    each with a row a text, and encodes both the same way. Whether a pipeline is of that kind is
    found out at the first call; any other one encodes its texts itself, as ever. So it is without
    guidance, when there is no negative prompt to share.
    """

    def __init__(self, pipeline: Any, kept: Kept) -> None:
        self._encode, self._pipeline, self._kept = pipeline.encode_prompt, pipeline, kept
        self._signature = inspect.signature(self._encode)
        self._fits: bool | None = None

    def __call__(self, *args: Any, **options: Any) -> Any:
        bound = self._signature.bind(*args, **options)
        bound.apply_defaults()
        given = dict(bound.arguments)
        prompts, negatives = given.pop("prompt", None), given.pop("negative_prompt", None)
        guided = given.pop("do_classifier_free_guidance", None)
        usable = (
            _are_texts(prompts)
            and _are_texts(negatives)
            and guided is True
            and all(isinstance(value, Hashable) for value in given.values())
        )
        if usable and self._fits is None:
            self._fits = self._finds_the_same(prompts[0], negatives[0], given)
        if not usable or not self._fits:
            return self._encode(*args, **options)
        return self._assembled(prompts, negatives, given)

    def _finds_the_same(self, prompt: str, negative: str, given: Mapping[str, Any]) -> bool:
        """Return whether a prompt and its negative come out as from the pipeline, to the bit."""
        theirs = self._encode(
            prompt=[prompt] * TEXTS_TOGETHER,
            negative_prompt=[negative] * TEXTS_TOGETHER,
            do_classifier_free_guidance=True,
            **given,
        )
        alone = self._encode(
            prompt=[prompt] * TEXTS_TOGETHER, do_classifier_free_guidance=False, **given
        )
        if not (isinstance(alone, tuple) and len(alone) in (2, 4) and len(theirs) == len(alone)):
            return False
        if any(t is not None for t in alone[1::2]) or not all(_are_rows(t) for t in alone[::2]):
            return False
        ours = self._assembled([prompt], [negative], given)
        return all(torch.equal(one, other[:1]) for one, other in zip(ours, theirs, strict=True))

    def _assembled(
        self, prompts: Sequence[str], negatives: Sequence[str], given: Mapping[str, Any]
    ) -> tuple[torch.Tensor, ...]:
        rows = self._rows([*prompts, *negatives], given)
        of_prompts, of_negatives = rows[: len(prompts)], rows[len(prompts) :]
        device = self._pipeline._execution_device
        return tuple(
            torch.cat([row[slot].to(device) for row in half])
            for slot in range(len(rows[0]))
            for half in (of_prompts, of_negatives)
        )

    def _rows(self, texts: Sequence[str], given: Mapping[str, Any]) -> list[Row]:
        state = (self._pipeline.dtype, *sorted((n, v) for n, v in given.items() if v is not None))
        found: dict[str, Row | None] = {
            text: self._kept.get((text, state)) for text in dict.fromkeys(texts)
        }
        missing = [text for text, row in found.items() if row is None]
        for start in range(0, len(missing), TEXTS_TOGETHER):
            group = missing[start : start + TEXTS_TOGETHER]
            padded = [*group, *[group[-1]] * (TEXTS_TOGETHER - len(group))]
            made = self._encode(prompt=padded, do_classifier_free_guidance=False, **given)[::2]
            for i, text in enumerate(group):
                found[text] = row = tuple(tensor[i : i + 1] for tensor in made)
                self._kept.put((text, state), row)
        return [kept for text in texts if (kept := found[text]) is not None]


def _are_texts(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(text, str) for text in value)


def _are_rows(value: Any) -> bool:
    return isinstance(value, torch.Tensor) and len(value) == TEXTS_TOGETHER
