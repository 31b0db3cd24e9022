"""Token merging: self-attention at the highest resolution over fewer tokens.

After Bolya and Hoffman, "Token Merging for Fast Stable Diffusion" (CVPR workshops 2023), from the
paper. Attention costs the square of the tokens, and most of them are at the highest resolution. Of
each 2 x 2 cell one token is a destination; of the others, the share that is most similar to a
destination is averaged into it before attention, and receives its output afterwards. Here the
places of destinations depend on the resolution alone, sums are matrix products and ties are broken
by position, so that an image depends neither on chance nor on its batch.
"""

from __future__ import annotations

import functools
import math
import random
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import normalize

from gendataagent.core.errors import ModelError

MOST = 0.75  # all but the destinations
_LARGEST_SHRINK = 1  # halvings of the latents at which attention still counts as high resolution


class TokenMerge:
    """Which tokens of each image are merged into which.

    Args:
        tokens_BNC: the tokens of square feature maps, row by row.
        share: of all tokens, to be merged; from 0 to `MOST`.
    """

    def __init__(self, tokens_BNC: Tensor, share: float) -> None:
        batch, count, _ = tokens_BNC.shape
        self._source_S, self._target_D = _places(math.isqrt(count), tokens_BNC.device)
        sources, targets = len(self._source_S), len(self._target_D)
        merged = min(int(share * count), sources)
        unit_BNC = normalize(tokens_BNC, dim=-1)
        likeness_BSD = unit_BNC[:, self._source_S] @ unit_BNC[:, self._target_D].mT
        most_BS, nearest_BS = likeness_BSD.max(dim=-1)
        order_BS = most_BS.argsort(dim=-1, descending=True, stable=True)
        self._merged_BM, self._kept_BK = order_BS[:, :merged], order_BS[:, merged:]
        self._into_BM = nearest_BS.gather(1, self._merged_BM)
        self._matrix_BDM = tokens_BNC.new_zeros(batch, targets, merged).scatter_(
            1, self._into_BM[:, None], 1.0
        )

    def merge(self, tokens_BNC: Tensor) -> Tensor:
        """Return the kept sources, then the destinations averaged with their merged sources."""
        source_BSC, target_BDC = tokens_BNC[:, self._source_S], tokens_BNC[:, self._target_D]
        sums_BDC = target_BDC + self._matrix_BDM @ _rows(source_BSC, self._merged_BM)
        counts_BD1 = 1 + self._matrix_BDM.sum(dim=-1, keepdim=True)
        return torch.cat([_rows(source_BSC, self._kept_BK), sums_BDC / counts_BD1], dim=1)

    def unmerge(self, tokens_BMC: Tensor) -> Tensor:
        """Return a token for each place, that of its destination for a merged one."""
        batch, kept = self._kept_BK.shape
        sources, targets = len(self._source_S), len(self._target_D)
        numbers = torch.arange(max(kept, targets), device=tokens_BMC.device).expand(batch, -1)
        row_BS = numbers.new_empty(batch, sources)
        row_BS = row_BS.scatter(1, self._kept_BK, numbers[:, :kept])
        row_BS = row_BS.scatter(1, self._merged_BM, kept + self._into_BM)
        row_BN = numbers.new_empty(batch, sources + targets)
        row_BN[:, self._source_S] = row_BS
        row_BN[:, self._target_D] = kept + numbers[:, :targets]
        return _rows(tokens_BMC, row_BN)


class MergedAttention:
    """An attention processor of diffusers that lets another one see merged tokens."""

    def __init__(self, inner: Any, share: float) -> None:
        self.inner, self._share = inner, share

    def __call__(
        self,
        attn: Any,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        **options: Any,
    ) -> Tensor:
        """Return the output of self-attention, [B, N, C]."""
        if hidden_states.shape[1] < 4:  # not a single cell
            return self.inner(attn, hidden_states, None, attention_mask, **options)  # type: ignore[no-any-return]
        merge = TokenMerge(hidden_states, self._share)
        output = self.inner(attn, merge.merge(hidden_states), None, attention_mask, **options)
        return merge.unmerge(output)


def merge_tokens(denoiser: Any, share: float) -> None:
    """Merge tokens in the self-attention at the highest resolution of a UNet.

    Raises:
        ModelError: it has no self-attention at the full or half side of its latents.
    """
    for attention in mergeable(denoiser):
        attention.set_processor(MergedAttention(attention.processor, share))


def mergeable(denoiser: Any) -> list[Any]:
    """Return the self-attention layers of the highest resolution that has any.

    Raises:
        ModelError: as `merge_tokens`.
    """
    by_level: dict[int, list[Any]] = {}
    for level, block in _blocks(denoiser):
        for transformer in getattr(block, "attentions", None) or ():
            for inner in getattr(transformer, "transformer_blocks", ()):
                if not getattr(inner, "only_cross_attention", False):
                    by_level.setdefault(level, []).append(inner.attn1)
    level = min(by_level, default=_LARGEST_SHRINK + 1)
    if level > _LARGEST_SHRINK:
        raise ModelError(
            f"generation.merge_tokens does not work on this {type(denoiser).__name__}: it has no "
            "UNet self-attention at the full or half side of its latents; set it to 0"
        )
    return by_level[level]


def _blocks(denoiser: Any) -> Iterator[tuple[int, Any]]:
    """Yield each block of a UNet with the number of times its feature maps are halved."""
    down, up = (list(getattr(denoiser, f"{way}_blocks", ())) for way in ("down", "up"))
    yield from enumerate(down)
    if down:
        yield len(down) - 1, denoiser.mid_block
    yield from ((len(up) - 1 - number, block) for number, block in enumerate(up))


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]
@functools.cache
def _places(side: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return the places of sources and destinations among side^2 tokens.

    A destination is at a random place in its cell, as the paper found best, but at the same one in
    every image, layer and step. A last row or column of an odd side has none.
    """
    chance = random.Random(side)
    targets = [
        (2 * row + chance.randrange(2)) * side + 2 * column + chance.randrange(2)
        for row in range(side // 2)
        for column in range(side // 2)
    ]
    sources = sorted(set(range(side**2)) - set(targets))
    with torch.inference_mode(False):  # they are used with gradients too
        return torch.tensor(sources, device=device), torch.tensor(targets, device=device)


def _rows(tokens_BNC: Tensor, index_BM: Tensor) -> Tensor:
    return tokens_BNC.gather(1, index_BM[..., None].expand(-1, -1, tokens_BNC.shape[-1]))
