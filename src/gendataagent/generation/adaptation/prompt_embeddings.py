"""Prompt embeddings of a pipeline's text encoders, each prompt encoded once if memory allows.

Letters in tensor names: B prompts, L tokens, D width.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from gendataagent.core.progress import Progress
from gendataagent.data.pixels import GIB

ENCODE_BATCH_SIZE = 16


class PromptEmbeddings:
    """Embeddings of the prompts of a training set, with the pooled ones for SDXL.

    `cache` encodes each distinct prompt once, in fixed batches, so that a resumed training sees
    the same embeddings to the bit. If they would take more than `cache_bytes`, the prompts are
    encoded again for every training batch.

    Args:
        learns: whether gradients pass to the text encoders, where words are learned; nothing is
            cached then.
    """

    def __init__(
        self, pipeline: Any, prompts: Sequence[str], device: torch.device,
        *, cache_bytes: int = 4 * GIB, learns: bool = False,
    ) -> None:  # fmt: skip
        self._pipeline, self._learns = pipeline, learns
        self._prompts = tuple(prompts)
        self._device = device
        self._cache_bytes = cache_bytes
        self._cached: dict[str, tuple[Tensor, Tensor | None]] = {}
        self.dual = getattr(pipeline, "text_encoder_2", None) is not None

    @property
    def fully_cached(self) -> bool:
        """Whether training needs the text encoders no more."""
        return bool(self._cached)

    def cache(self, progress: Progress) -> None:
        """Encode every distinct prompt, if all fit into `cache_bytes`."""
        if self._learns:
            return
        distinct = list(dict.fromkeys(self._prompts))
        embeddings_BLD, pooled_BD = self._encode(distinct[:1])
        each = embeddings_BLD.nbytes + (0 if pooled_BD is None else pooled_BD.nbytes)
        if len(distinct) * each > self._cache_bytes:
            return
        cached: dict[str, tuple[Tensor, Tensor | None]] = {}
        with progress.stage("encode", len(distinct), "prompts") as stage:
            for start in range(0, len(distinct), ENCODE_BATCH_SIZE):
                group = distinct[start : start + ENCODE_BATCH_SIZE]
                embeddings_BLD, pooled_BD = self._encode(group)
                for row, prompt in enumerate(group):
                    pooled_D = None if pooled_BD is None else pooled_BD[row].cpu().clone()
                    cached[prompt] = embeddings_BLD[row].cpu().clone(), pooled_D
                stage.advance(len(group))
        self._cached = cached

    def of(self, indices: Sequence[int]) -> tuple[Tensor, Tensor | None]:
        """Return the prompts' embeddings [B, L, D], and for SDXL the pooled ones [B, D]."""
        prompts = [self._prompts[index] for index in indices]
        if not self._cached:
            return self._encode(prompts)
        rows = [self._cached[prompt] for prompt in prompts]
        embeddings_BLD = torch.stack([row[0] for row in rows]).to(self._device)
        pooled = [row[1] for row in rows if row[1] is not None]
        return embeddings_BLD, torch.stack(pooled).to(self._device) if pooled else None

    def _encode(self, prompts: list[str]) -> tuple[Tensor, Tensor | None]:
        """Return the embeddings exactly as the pipeline computes them at inference."""
        with torch.set_grad_enabled(self._learns):
            encoded = self._pipeline.encode_prompt(
                prompts,
                device=self._device,
                num_images_per_prompt=1,
                do_classifier_free_guidance=False,
            )
        return encoded[0], encoded[2] if self.dual else None
