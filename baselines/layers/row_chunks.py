"""Row by row work on many rows in chunks: the backward computes each chunk again, so that only the inputs are kept."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.func import vjp

from milbench_baselines.layers.precision import without_autocast

ENTRIES = 2**21
"""Numbers that one temporary result of a chunk should have at most: 8 MB in float32."""


def of_row_chunks(
    function: Callable[..., Tensor], rows: Sequence[Tensor], shared: Sequence[Tensor] = (), *, entries_per_row: int
) -> Tensor:
    """Results [N, ...] of `function(*rows, *shared)`, computed for some of the N rows at a time.

    Autograd keeps `rows` and `shared` and no result in between. It works inside vmap, and autocast is off inside.

    Parameters
    ----------
    function : row n of its result depends on row n of `rows` and on `shared`. It draws no random numbers.
    rows : tensors [N, ...].
    shared : tensors that every row needs.
    entries_per_row : size of the largest temporary result per row.
    """
    size = max(1, ENTRIES // entries_per_row)
    return _OfChunks.apply(function, size, len(rows), *rows, *shared)  # type: ignore[no-any-return, no-untyped-call]


def float32_or_wider(x: Tensor) -> Tensor:
    """`x` in float32 where it is narrower: a chunk can afford sums and softmaxes in full precision."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


class _OfChunks(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(function: Callable[..., Tensor], size: int, n_rows: int, *tensors: Tensor) -> Tensor:
        with without_autocast(tensors[0].device):
            return torch.cat([function(*chunk) for chunk in _chunks(tensors, n_rows, size)])

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.function, ctx.size, ctx.n_rows, *tensors = inputs
        ctx.save_for_backward(*tensors)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        tensors: tuple[Tensor, ...] = ctx.saved_tensors
        floats = [i for i, tensor in enumerate(tensors) if tensor.is_floating_point()]
        found: list[list[Tensor]] = [[] for _ in tensors]
        with without_autocast(gradient.device):
            chunks = _chunks(tensors, ctx.n_rows, ctx.size)
            for chunk, of_chunk in zip(chunks, torch.split(gradient, ctx.size), strict=True):
                back = vjp(partial(_of_floats, ctx.function, chunk, floats), *(chunk[i] for i in floats))[1]
                for i, part in zip(floats, back(of_chunk), strict=True):
                    is_shared = i >= ctx.n_rows  # every chunk adds to its gradient
                    found[i] = [found[i][0] + part] if is_shared and found[i] else [*found[i], part]
        return (None, None, None, *(_joined(parts) for parts in found))


def _of_floats(function: Callable[..., Tensor], chunk: Sequence[Tensor], floats: Sequence[int], *values: Tensor) -> Tensor:
    """The function of a chunk, as one of its floating-point tensors alone."""
    given = dict(zip(floats, values, strict=True))
    return function(*(given.get(i, tensor) for i, tensor in enumerate(chunk)))


def _chunks(tensors: Sequence[Tensor], n_rows: int, size: int) -> list[tuple[Tensor, ...]]:
    """Arguments of the function for each chunk: slices of the first `n_rows` tensors, and the others whole."""
    slices = zip(*(torch.split(tensor, size) for tensor in tensors[:n_rows]), strict=True)
    return [(*each, *tensors[n_rows:]) for each in slices]


def _joined(parts: list[Tensor]) -> Tensor | None:
    return torch.cat(parts) if len(parts) > 1 else (parts[0] if parts else None)
