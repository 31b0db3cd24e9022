"""Prompts as embeddings of a pipeline's text encoders, each encoded once where memory allows.

Letters in tensor names: B prompts, L tokens, D width.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from gendataagent.core.progress import Progress
from gendataagent.data.pixels import GIB

ENCODED_TOGETHER = 16


class PromptEmbeddings:
    """Embeddings of the prompts of a training set; SDXL's pooled ones too.

    `cache` encodes each different prompt once, in fixed groups, so that a resumed training sees
    the same ones to the bit. Where they would take more than `cache_bytes`, a batch's prompts are
    encoded each time it is its turn.
    """

    def __init__(
        self, pipeline: Any, prompts: Sequence[str], device: torch.device,
        *, cache_bytes: int = 4 * GIB,
    ) -> None:  # fmt: skip
        self._pipeline = pipeline
        self._prompts = tuple(prompts)
        self._device = device
        self._cache_bytes = cache_bytes
        self._kept: dict[str, tuple[Tensor, Tensor | None]] = {}
        self.dual = getattr(pipeline, "text_encoder_2", None) is not None

    @property
    def complete(self) -> bool:
        """Whether the text encoders are not needed any more."""
        return bool(self._kept)

    def cache(self, progress: Progress) -> None:
        """Encode every different prompt, if there is room for all."""
        different = list(dict.fromkeys(self._prompts))
        embeddings_BLD, pooled_BD = self._encode(different[:1])
        each = embeddings_BLD.nbytes + (0 if pooled_BD is None else pooled_BD.nbytes)
        if len(different) * each > self._cache_bytes:
            return
        kept: dict[str, tuple[Tensor, Tensor | None]] = {}
        with progress.stage("encode", len(different), "prompts") as stage:
            for start in range(0, len(different), ENCODED_TOGETHER):
                group = different[start : start + ENCODED_TOGETHER]
                embeddings_BLD, pooled_BD = self._encode(group)
                for row, prompt in enumerate(group):
                    pooled_D = None if pooled_BD is None else pooled_BD[row].cpu().clone()
                    kept[prompt] = embeddings_BLD[row].cpu().clone(), pooled_D
                stage.advance(len(group))
        self._kept = kept

    def of(self, indices: Sequence[int]) -> tuple[Tensor, Tensor | None]:
        """Return embeddings [B, L, D] and pooled ones [B, D] (SDXL only) of images' prompts."""
        prompts = [self._prompts[index] for index in indices]
        if not self._kept:
            return self._encode(prompts)
        rows = [self._kept[prompt] for prompt in prompts]
        embeddings_BLD = torch.stack([row[0] for row in rows]).to(self._device)
        pooled = [row[1] for row in rows if row[1] is not None]
        return embeddings_BLD, torch.stack(pooled).to(self._device) if pooled else None

    @torch.no_grad()
    def _encode(self, prompts: list[str]) -> tuple[Tensor, Tensor | None]:
        """Return the embeddings exactly as the pipeline makes them when it draws."""
        answer = self._pipeline.encode_prompt(
            prompts,
            device=self._device,
            num_images_per_prompt=1,
            do_classifier_free_guidance=False,
        )
        return answer[0], answer[2] if self.dual else None
