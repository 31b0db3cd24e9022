"""Optimiser steps that several processes take together, each with its part of the batch.

Up to rounding, a step is the one that a single process takes with the whole batch: gradients are
summed, statistics of batch normalisation are those of the whole batch, and dropout and stochastic
depth draw for the whole batch. The processes are those of torch's default process group; the first
is the leader.

Letters in tensor names: B images of the whole batch, b of this process's part, C channels, P
processes.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, distributed, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional
from torch.nn.modules._functions import SyncBatchNorm as SyncBatchNormOnCuda
from torch.overrides import TorchFunctionMode

LEADER = 0
_BUCKET = 25_000_000  # gradients summed at once: 100 MB in float32
_DROPOUTS = frozenset(
    {functional.dropout, functional.dropout1d, functional.dropout2d, functional.dropout3d}
)


@dataclass(frozen=True, slots=True)
class Part:
    """This process's part of one batch.

    Args:
        rank: of this process.
        processes: that share the batch.
        images: in the whole batch. With fewer images than processes the leader takes them all.
    """

    rank: int
    processes: int
    images: int

    @property
    def rows(self) -> slice:
        """Rows of the whole batch that this process takes."""
        return self._rows_of(self.rank)

    @property
    def is_divided(self) -> bool:
        """Whether every process has images."""
        return self.images >= self.processes

    def give(self, batch_B: Tensor) -> Tensor:
        """Send the other processes their rows of the leader's batch [B, ...]; return its own."""
        if self.is_divided:
            padded_Pb = batch_B.new_zeros((self.processes, self._longest, *batch_B.shape[1:]))
            for rank in range(self.processes):
                rows = self._rows_of(rank)
                padded_Pb[rank, : rows.stop - rows.start] = batch_B[rows]
            distributed.scatter(padded_Pb[LEADER].clone(), list(padded_Pb.unbind()), src=LEADER)
        return batch_B[self.rows]

    def receive(self, *shape: int, device: torch.device) -> Tensor:
        """Return this process's rows [b, *shape] of what the leader gives; float32."""
        rows = self.rows
        part_b = torch.empty((self._longest, *shape), device=device)
        if self.is_divided:
            distributed.scatter(part_b, src=LEADER)
        return part_b[: rows.stop - rows.start]

    @contextlib.contextmanager
    def layers(self) -> Iterator[None]:
        """Let layers that depend on the whole batch see it, in a forward pass of the part."""
        if not self.is_divided:
            yield
            return
        with _WholeBatch(self):
            yield

    def add_up(self, parameters: Iterable[nn.Parameter], loss: Tensor) -> float:
        """Replace each gradient by its sum over the processes; return the sum of their losses."""
        wanted = [parameter for parameter in parameters if parameter.requires_grad]
        has_gradient = [parameter.grad is not None for parameter in wanted]
        marks = torch.tensor([*has_gradient, 0.0], dtype=torch.float64, device=loss.device)
        marks[-1] = loss.detach()
        distributed.all_reduce(marks)
        for bucket in _buckets(wanted):
            gradients = [p.grad if p.grad is not None else torch.zeros_like(p) for p in bucket]
            flat = torch.cat([gradient.reshape(-1) for gradient in gradients])
            distributed.all_reduce(flat)
            parts = flat.split([parameter.numel() for parameter in bucket])
            for parameter, gradient, total in zip(bucket, gradients, parts, strict=True):
                gradient.copy_(total.view_as(gradient))
                parameter.grad = gradient
        *processes_with, total_loss = marks.tolist()
        for parameter, count in zip(wanted, processes_with, strict=True):
            if not count:  # none took part in the loss: no weight decay either
                parameter.grad = None
        return float(total_loss)

    @property
    def _longest(self) -> int:
        return -(-self.images // self.processes)

    def _rows_of(self, rank: int) -> slice:
        if not self.is_divided:
            return slice(0, self.images if rank == LEADER else 0)
        each, more = divmod(self.images, self.processes)
        start = rank * each + min(rank, more)
        return slice(start, start + each + (rank < more))


def _buckets(parameters: Sequence[nn.Parameter]) -> Iterator[list[nn.Parameter]]:
    """Yield the parameters in order, as many at once as fit into a bucket, of one dtype."""
    bucket: list[nn.Parameter] = []
    size = 0
    for parameter in parameters:
        if bucket and (size + parameter.numel() > _BUCKET or parameter.dtype != bucket[0].dtype):
            yield bucket
            bucket, size = [], 0
        bucket.append(parameter)
        size += parameter.numel()
    if bucket:
        yield bucket


class _WholeBatch(TorchFunctionMode):
    """Makes batch normalisation, dropout and stochastic depth of a part those of the whole batch.

    Whatever layer calls torch's functions for them is reached, also of other libraries.
    """

    def __init__(self, part: Part) -> None:
        super().__init__()
        self._part = part

    def __torch_function__(
        self,
        function: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        if function is functional.batch_norm:
            return self._batch_norm(*args, **kwargs)
        if function in _DROPOUTS:
            return self._dropout(function, *args, **kwargs)
        if function is torch.rand:  # stochastic depth of transformers
            return self._rand(*args, **kwargs)
        if function is Tensor.bernoulli_:  # and of timm
            return self._bernoulli(*args, **kwargs)
        return function(*args, **kwargs)

    def _batch_norm(
        self,
        input: Tensor,
        running_mean: Tensor | None,
        running_var: Tensor | None,
        weight: Tensor | None = None,
        bias: Tensor | None = None,
        training: bool = False,
        momentum: float = 0.1,
        eps: float = 1e-5,
    ) -> Tensor:
        if not training:
            return functional.batch_norm(
                input, running_mean, running_var, weight, bias, False, momentum, eps
            )
        kind = SyncBatchNormOnCuda if input.is_cuda else _SharedBatchNorm
        normalise: Callable[..., Tensor] = kind.apply
        arguments = (input, weight, bias, running_mean, running_var, eps, momentum)
        return normalise(*arguments, distributed.group.WORLD, self._part.processes)

    def _dropout(
        self,
        function: Callable[..., Tensor],
        input: Tensor,
        p: float = 0.5,
        training: bool = True,
        inplace: bool = False,
    ) -> Tensor:
        whole = self._whole(input.shape)
        if not training or whole is None:
            return function(input, p, training, inplace)
        shape, rows = whole
        return input * function(input.new_ones(shape), p, True)[rows]

    def _rand(self, *size: Any, **options: Any) -> Tensor:
        shape = size[0] if len(size) == 1 and not isinstance(size[0], int) else size
        whole = self._whole(shape)
        if whole is None:
            return torch.rand(*size, **options)
        return torch.rand(whole[0], **options)[whole[1]]

    def _bernoulli(self, tensor: Tensor, *arguments: Any, **options: Any) -> Tensor:
        whole = self._whole(tensor.shape)
        if whole is None:
            return tensor.bernoulli_(*arguments, **options)
        shape, rows = whole
        return tensor.copy_(tensor.new_empty(shape).bernoulli_(*arguments, **options)[rows])

    def _whole(self, shape: Sequence[int]) -> tuple[tuple[int, ...], slice] | None:
        """Return the shape for the whole batch, and the rows of it that are this part's.

        None for a tensor that does not have the same number of rows for each image.
        """
        rows = self._part.rows
        each, rest = divmod(shape[0], rows.stop - rows.start) if shape else (0, 1)
        if rest:
            return None
        whole = (self._part.images * each, *shape[1:])
        return whole, slice(rows.start * each, rows.stop * each)


class _SharedBatchNorm(torch.autograd.Function):
    """Batch normalisation with the statistics of all processes, where torch's needs a GPU.

    Same arguments as torch's. Gradients of weight and bias are those of the part.
    """

    @staticmethod
    def forward(
        ctx: Any,
        input: Tensor,
        weight: Tensor | None,
        bias: Tensor | None,
        running_mean: Tensor | None,
        running_var: Tensor | None,
        eps: float,
        momentum: float,
        group: Any,
        processes: int,
    ) -> Tensor:
        wide = input.to(torch.promote_types(input.dtype, torch.float32))
        channels = input.shape[1]
        var_C, mean_C = torch.var_mean(wide, _all_but_channels(input), correction=0)
        table = wide.new_zeros((processes, 2 * channels + 1))
        count = input.numel() // channels
        table[distributed.get_rank(group)] = torch.cat([mean_C, var_C, var_C.new_tensor([count])])
        distributed.all_reduce(table, group=group)
        means_PC, vars_PC, counts_P1 = table.split([channels, channels, 1], dim=1)
        total = counts_P1.sum()
        mean_C = (counts_P1 * means_PC).sum(dim=0) / total
        var_C = (counts_P1 * (vars_PC + (means_PC - mean_C).square())).sum(dim=0) / total
        if running_mean is not None and running_var is not None:
            running_mean.lerp_(mean_C.to(running_mean.dtype), momentum)
            running_var.lerp_((var_C * total / (total - 1)).to(running_var.dtype), momentum)
        inverse_C = (var_C + eps).rsqrt()
        ctx.save_for_backward(input, weight, mean_C, inverse_C, total)
        ctx.group = group
        result = (wide - _wide(mean_C, input)) * _wide(inverse_C, input)
        if weight is not None:
            result = result * _wide(weight, input)
        if bias is not None:
            result = result + _wide(bias, input)
        return result.to(input.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Any:
        input, weight, mean_C, inverse_C, total = ctx.saved_tensors
        gradient = gradient.to(mean_C.dtype)
        normal = (input.to(mean_C.dtype) - _wide(mean_C, input)) * _wide(inverse_C, input)
        dims = _all_but_channels(input)
        own = torch.stack([gradient.sum(dims), (gradient * normal).sum(dims)])
        of_bias_C, of_weight_C = own.clone()
        distributed.all_reduce(own, group=ctx.group)
        shift_C, scale_C = own / total
        of_input = gradient - _wide(shift_C, input) - normal * _wide(scale_C, input)
        of_input = of_input * _wide(inverse_C if weight is None else inverse_C * weight, input)
        needs = ctx.needs_input_grad
        return (
            of_input.to(input.dtype) if needs[0] else None,
            of_weight_C.to(weight.dtype) if needs[1] else None,
            of_bias_C if needs[2] else None,
            *(None,) * 6,
        )


def _all_but_channels(input: Tensor) -> list[int]:
    return [dim for dim in range(input.dim()) if dim != 1]


def _wide(values_C: Tensor, input: Tensor) -> Tensor:
    """Return values of channels, to be broadcast over `input` [b, C, ...]."""
    return values_C.view(1, -1, *[1] * (input.dim() - 2))
