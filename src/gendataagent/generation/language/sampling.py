"""Tokens sampled row by row, each row with its own generator and end.

transformers samples a batch from one generator, so an answer depends on the other rows. Here every
row has its own generator and takes one number from it per token.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from transformers import LogitsProcessor, StoppingCriteria


class RowSampler(LogitsProcessor):  # type: ignore[misc] # transformers is not followed by mypy
    """Samples the next token of each row by temperature and top-p, and masks all others.

    Greedy decoding then takes it. Rows are sorted completely, so top-p cuts exactly where the most
    probable tokens reach that mass; the token that reaches it stays.

    Args:
        seeds: one per row.
        temperature: 0 = the most probable token.
    """

    def __init__(self, seeds: Sequence[int], *, temperature: float, top_p: float) -> None:
        self._generators = [torch.Generator("cpu").manual_seed(seed) for seed in seeds]
        self._temperature = temperature
        self._top_p = top_p

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """Return scores [B, V] that are 0 for the token chosen and -inf for all others."""
        if self._temperature == 0:
            chosen_B1 = scores.argmax(dim=-1, keepdim=True)
        else:
            draws = [torch.rand((), generator=g, dtype=torch.float64) for g in self._generators]
            draws_B1 = torch.stack(draws)[:, None].to(scores.device, torch.float32)
            chosen_B1 = draw(scores.float() / self._temperature, draws_B1, self._top_p)
        return torch.full_like(scores, -torch.inf).scatter_(1, chosen_B1, 0.0)


def draw(logits_BV: torch.Tensor, draws_B1: torch.Tensor, top_p: float) -> torch.Tensor:
    """Return the token [B, 1] at which the kept probabilities, highest first, pass each draw.

    Args:
        draws_B1: uniform in [0, 1).
    """
    sorted_BV, order_BV = logits_BV.sort(dim=-1, descending=True, stable=True)
    probabilities_BV = sorted_BV.softmax(dim=-1)
    reached_BV = probabilities_BV.cumsum(dim=-1)
    kept_BV = reached_BV - probabilities_BV < top_p
    kept_BV[:, 0] = True
    last_B1 = kept_BV.sum(dim=-1, keepdim=True) - 1
    target_B1 = draws_B1 * reached_BV.gather(1, last_B1)
    rank_B1 = (reached_BV <= target_B1).sum(dim=-1, keepdim=True)
    return order_BV.gather(1, torch.minimum(rank_B1, last_B1))


class RowStops(StoppingCriteria):  # type: ignore[misc]
    """Ends each row at its own number of tokens or stop texts.

    Args:
        start: tokens of the padded prompt, before the answer.
        tokens_at_most, stops: one entry per row.
    """

    def __init__(
        self,
        tokenizer: Any,
        start: int,
        *,
        tokens_at_most: Sequence[int],
        stops: Sequence[tuple[str, ...]],
    ) -> None:
        self._tokenizer = tokenizer
        self._start = start
        self._tokens_at_most = tokens_at_most
        self._stops = stops

    def __call__(
        self, input_ids: torch.Tensor, scores: torch.Tensor | None, **_: object
    ) -> torch.Tensor:
        """Return which rows [B] have ended."""
        length = input_ids.shape[1] - self._start
        ends = []
        for row, most, stops in zip(input_ids, self._tokens_at_most, self._stops, strict=True):
            text = self._tokenizer.decode(row[self._start :]) if stops else ""
            ends.append(length >= most or any(stop in text for stop in stops))
        return torch.tensor(ends, device=input_ids.device)
