"""Depthwise convolution of a large grid on a CPU, in strips of the grid's rows with their rim, which stay in the cache.

The kernels' gradient goes strip by strip too (`grid_convolution`).

Shapes: G grids (bags of all stacked models) of k x k cells and C channels, S sets of kernels [C, 1, s, s], s odd. G / S bags in
a row share a set.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from milbench_baselines.layers.grid_convolution import add_gradient_of_kernel, convolved, convolved_whole, with_rim
from milbench_baselines.layers.grid_taps import numbers_of_a_block
from milbench_baselines.layers.precision import without_autocast
from milbench_baselines.layers.row_blocks import no_second_gradient


def in_strips(rows: Tensor, kernel: Tensor, side: int) -> Tensor:
    """Convolved grids [k k, C] of `rows` [k k, C] of a grid of `side` k with kernels [C, 1, s, s]; there are zeros around."""
    return _Convolved.apply(rows, kernel, side)  # type: ignore[no-any-return, no-untyped-call]


def _by_set(grids: Tensor, kernels: Tensor) -> Iterator[tuple[slice, Tensor]]:
    """Per set of kernels [S, C, 1, s, s] the places of its bags among G grids, and the set."""
    n = len(grids) // len(kernels)
    yield from ((slice(i * n, (i + 1) * n), kernel) for i, kernel in enumerate(kernels))


def _squares(grids: Tensor, side: int) -> Tensor:
    """Grids [G, k, k, C] of [G, k k, C]."""
    return grids.reshape(len(grids), side, side, -1)


def _strips(bags: Tensor) -> Iterator[slice]:
    """Slices of the rows of bags [B, k, k, C]."""
    height, side = max(1, numbers_of_a_block() // (len(bags) * bags[0, 0].numel())), bags.shape[1]
    yield from (slice(top, min(top + height, side)) for top in range(0, side, height))


def _convolve(bags: Tensor, kernel: Tensor, out: Tensor) -> None:
    """Convolve bags [B, k, k, C] with one set of kernels [C, 1, s, s] into `out` [B, k, k, C]."""
    strips = list(_strips(bags))
    if len(strips) == 1:
        out.copy_(convolved_whole(bags, kernel))
        return
    for strip in strips:
        out[:, strip] = convolved(_window(bags, strip, kernel.shape[-1] // 2), kernel)


def _window(bags: Tensor, strip: slice, rim: int) -> Tensor:
    """Cells [B, rows of the strip + 2 rim, k + 2 rim, C] of bags [B, k, k, C], zero outside of the grid."""
    n, side, _, channels = bags.shape
    if strip.stop - strip.start == side:
        return with_rim(bags, rim)
    top, bottom = max(0, strip.start - rim), min(side, strip.stop + rim)
    window = bags.new_empty(n, strip.stop - strip.start + 2 * rim, side + 2 * rim, channels)
    above = top - (strip.start - rim)
    inside = slice(above, above + bottom - top)
    window[:, :above], window[:, inside.stop :] = 0, 0
    if rim:
        window[:, :, :rim], window[:, :, -rim:] = 0, 0
    window[:, inside, rim : rim + side] = bags[:, top:bottom]
    return window


class _Convolved(torch.autograd.Function):
    """Grids [*S, *B, k k, C] convolved with kernels [*S, *1, C, 1, s, s], as in `side_by_side`."""

    @staticmethod
    def forward(rows: Tensor, kernel: Tensor, side: int) -> Tensor:
        grids, kernels = rows.reshape(-1, *rows.shape[-2:]), kernel.reshape(-1, *kernel.shape[-4:])
        out = torch.empty_like(grids, memory_format=torch.contiguous_format)
        with without_autocast(rows.device):
            cells, into = _squares(grids, side), _squares(out, side)
            for at, own in _by_set(grids, kernels):
                _convolve(cells[at], own, into[at])
        return out.view(rows.shape)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, int], output: Tensor) -> None:
        ctx.save_for_backward(*inputs[:2])
        ctx.side = inputs[2]

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None]:  # type: ignore[override]
        return (*_Gradients.apply(gradient, *ctx.saved_tensors, ctx.side), None)  # type: ignore[no-untyped-call]

    @staticmethod
    def vmap(
        info: Any, in_dims: tuple[int | None, int | None, None], rows: Tensor, kernel: Tensor, side: int
    ) -> tuple[Tensor, int]:
        is_own = in_dims[1] is not None or any(n != 1 for n in kernel.shape[:-4])
        kernel = _in_front(kernel, in_dims[1], info.batch_size if is_own else 1)
        return _Convolved.apply(_in_front(rows, in_dims[0], info.batch_size), kernel, side), 0  # type: ignore[no-untyped-call]


class _Gradients(torch.autograd.Function):
    """Gradients of rows and kernel. It is a function so that under vmap it computes with plain tensors too."""

    @staticmethod
    def forward(gradient: Tensor, rows: Tensor, kernel: Tensor, side: int) -> tuple[Tensor, Tensor]:
        grids, kernels = rows.reshape(-1, *rows.shape[-2:]), kernel.reshape(-1, *kernel.shape[-4:])
        of_out, rim = gradient.reshape(grids.shape), kernel.shape[-1] // 2
        of_grids = torch.empty_like(grids, memory_format=torch.contiguous_format)
        of_kernels = torch.zeros_like(kernels, dtype=torch.promote_types(kernels.dtype, torch.float32))
        with without_autocast(rows.device):
            cells, of_cells, into = (_squares(each, side) for each in (grids, of_out, of_grids))
            for (at, own), of_kernel in zip(_by_set(grids, kernels), of_kernels, strict=True):
                _convolve(of_cells[at], own.flip(-1, -2), into[at])
                for strip in _strips(cells[at]):
                    add_gradient_of_kernel(of_kernel, _window(cells[at], strip, rim), of_cells[at, strip])
        return of_grids.view(rows.shape), of_kernels.to(kernel.dtype).view(kernel.shape)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
        """Nothing is kept."""

    backward = staticmethod(no_second_gradient)  # type: ignore[assignment]

    @staticmethod
    def vmap(
        info: Any, in_dims: tuple[int | None, ...], gradient: Tensor, rows: Tensor, kernel: Tensor, side: int
    ) -> tuple[tuple[Tensor, Tensor], tuple[int, int]]:
        moved = (_in_front(x, dim, info.batch_size) for x, dim in zip((gradient, rows, kernel), in_dims, strict=False))
        return _Gradients.apply(*moved, side), (0, 0)  # type: ignore[no-untyped-call]


def _in_front(x: Tensor, dim: int | None, size: int) -> Tensor:
    """`x` with its dimension `dim` in front; without one, a new dimension of this size."""
    return x.expand(size, *x.shape) if dim is None else x.movedim(dim, 0)
