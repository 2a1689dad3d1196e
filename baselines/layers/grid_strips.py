"""Depthwise convolution of a large grid on a CPU, in strips of the grid's rows with their rim.

Tokens lie channel by channel, and torch's convolution of such a grid, its gradient above all, is many times slower than that
of one plane per channel. So each strip is transposed, convolved and transposed back while it lies in the cache. The kernels'
gradient is a convolution too: of a strip of the input, with the gradient's strip as the kernel.

Shapes: G grids (bags of all stacked models) of k x k cells and C channels, S sets of kernels [C, 1, s, s], s odd.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import conv2d, pad

from milbench_baselines.layers.precision import without_autocast
from milbench_baselines.layers.row_blocks import no_second_gradient

NUMBERS_OF_A_STRIP = 2**21
"""Cells times channels of a strip, about: 8 MB in float32."""

ROWS_OF_A_STRIP = 16
"""Most rows of a strip, so that float32 sums over few cells at a time."""


def in_strips(rows: Tensor, kernel: Tensor, side: int) -> Tensor:
    """Convolved grids [k k, C] of `rows` [k k, C] of a grid of `side` k with kernels [C, 1, s, s]; there are zeros around."""
    return _Convolved.apply(rows, kernel, side)  # type: ignore[no-any-return, no-untyped-call]


def _strips(grids: Tensor, side: int) -> Iterator[slice]:
    height = max(1, min(ROWS_OF_A_STRIP, NUMBERS_OF_A_STRIP // (len(grids) * side * grids.shape[-1])))
    yield from (slice(top, min(top + height, side)) for top in range(0, side, height))


def _planes(grids: Tensor, side: int, strip: slice, rim: int) -> Tensor:
    """Planes [G C, rows of the strip + 2 rim, k] of grids [G, k k, C]."""
    top, bottom = max(0, strip.start - rim), min(side, strip.stop + rim)
    cells = grids[:, top * side : bottom * side]
    # torch transposes a matrix in blocks, and anything else entry by entry
    planes = cells[0].t().contiguous() if len(cells) == 1 else cells.mT.reshape(-1, cells.shape[1])
    missing = rim - (strip.start - top), rim - (bottom - strip.stop)
    planes = torch.unflatten(planes, -1, (-1, side))
    return pad(planes, (0, 0, *missing)) if any(missing) else planes


def _write(into: Tensor, planes: Tensor, side: int, strip: slice) -> None:
    """Write planes [G C, rows, k] into the strip of grids [G, k k, C]."""
    cells = into[:, strip.start * side : strip.stop * side]
    if len(cells) == 1:
        cells[0].copy_(planes.flatten(1).t())
    else:
        cells.copy_(torch.unflatten(planes.flatten(1), 0, (len(cells), -1)).mT)


def _convolve(planes: Tensor, kernels: Tensor, across: int) -> Tensor:
    """Convolved planes [P, ...] of planes [P, rows, k], each with its own of the kernels [P, s, s]."""
    return conv2d(planes[None], kernels[:, None], padding=(0, across), groups=len(planes))[0]


def _of_planes(kernels: Tensor, n_grids: int) -> Tensor:
    """Kernels [G C, s, s] of kernels [S, C, 1, s, s]."""
    return kernels.squeeze(2)[:, None].expand(-1, n_grids // len(kernels), -1, -1, -1).flatten(0, 2)


class _Convolved(torch.autograd.Function):
    """Grids [*S, *B, k k, C] convolved with kernels [*S, *1, C, 1, s, s], as in `side_by_side`."""

    @staticmethod
    def forward(rows: Tensor, kernel: Tensor, side: int) -> Tensor:
        grids, kernels = rows.reshape(-1, *rows.shape[-2:]), kernel.reshape(-1, *kernel.shape[-4:])
        own, rim = _of_planes(kernels, len(grids)), kernel.shape[-1] // 2
        out = torch.empty_like(grids, memory_format=torch.contiguous_format)
        with without_autocast(rows.device):
            for strip in _strips(grids, side):
                _write(out, _convolve(_planes(grids, side, strip, rim), own, rim), side, strip)
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
        flipped = _of_planes(kernels.flip(-1, -2), len(grids))
        of_grids = torch.empty_like(grids, memory_format=torch.contiguous_format)
        of_kernels = torch.zeros_like(flipped, dtype=torch.promote_types(flipped.dtype, torch.float32))
        with without_autocast(rows.device):
            for strip in _strips(grids, side):
                of_strip = _planes(of_out, side, strip, rim)
                _write(of_grids, _convolve(of_strip, flipped, rim), side, strip)
                inner = of_strip[:, rim : rim + strip.stop - strip.start].contiguous()
                of_kernels += _convolve(_planes(grids, side, strip, rim), inner, rim)
        summed = torch.unflatten(of_kernels, 0, (len(kernels), -1, kernels.shape[1])).sum(dim=1)
        return of_grids.view(rows.shape), summed.to(kernel.dtype).view(kernel.shape)

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
