"""Depthwise convolution of a bag's grid or sequence: every channel with its own kernel.

What is small is convolved by one matrix product a channel. torch's own convolution spends most of its time on starting where
grids are a few cells wide, and is slow without the layout "channels last", which many bags of many models do not have.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import conv2d, pad

from .precision import without_autocast

CELLS_OF_A_MATRIX = 64
"""A matrix has the square of its cells as entries: more, and it takes memory that a convolution does not."""

MULTIPLY_ADDS_OF_A_MATRIX = 5e6
"""Up to this cost of writing the kernels as matrices, products are not slower than conv2d, even for one bag."""


def depthwise(rows: Tensor, kernel: Tensor, side: int) -> Tensor:
    """Rows [k k, C] of a grid, row-major, convolved with kernels [C, 1, s, s], s odd, zeros around; the same shape."""
    channels, size = len(kernel), kernel.shape[-1]
    if _as_matrices(channels * size**2, side**2):
        matrices = (kernel.flatten(1) @ reads(side, size, kernel.dtype, kernel.device)).to(rows.dtype)  # [C, k k k k]
        return _EveryChannel.apply(rows, matrices.reshape(channels, side**2, side**2))  # type: ignore[no-any-return, no-untyped-call]
    grid = rows.reshape(side, side, channels).permute(2, 0, 1)[None]                          # [1, C, k, k], a view
    return conv2d(grid, kernel, padding=size // 2, groups=channels)[0].permute(1, 2, 0).flatten(0, 1)


def along(rows: Tensor, kernel: Tensor, wanted: slice) -> Tensor:
    """Rows [H, L, d] of H heads convolved along L with kernels [H, s], s odd, zeros around: the `wanted` rows only."""
    heads, length, _ = rows.shape
    size = kernel.shape[-1]
    if _as_matrices(heads * size, length):
        matrices = kernel @ _reads_along(length, size, kernel.dtype, kernel.device).flatten(1)  # [H, L L]
        return matrices.reshape(heads, length, length)[:, wanted] @ rows
    needed = pad(rows, (0, 0, size // 2, size // 2))[:, wanted.start : wanted.stop + size - 1]
    return conv2d(needed[None], kernel[:, None, :, None], groups=heads)[0]


def _as_matrices(entries: int, cells: int) -> bool:
    """Whether kernels with so many entries in all are written as matrices between so many cells."""
    return cells <= CELLS_OF_A_MATRIX and entries * cells**2 <= MULTIPLY_ADDS_OF_A_MATRIX


@cache
def reads(side: int, size: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """[s s, k k k k], 1 where an output cell reads an input cell through that entry of the kernel, else 0."""
    one = _reads_along(side, size, dtype, device)
    return torch.einsum("apq,brs->abprqs", one, one).reshape(size**2, -1)


@cache
def _reads_along(length: int, size: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """[s, L, L], the same of a sequence."""
    places = torch.arange(length)
    entry = places[None] - places[:, None] + size // 2                                          # [out, in]
    return torch.stack([entry == e for e in range(size)]).to(device, dtype)


class _EveryChannel(torch.autograd.Function):
    """out[p, c] = sum_q matrices[c, p, q] rows[q, c].

    Where bags are mapped over and matrices are not, vmap's own rule for products would copy the matrices for every bag;
    here the bags become columns of one product. Leading dimensions of the matrices are those of the rows, the last ones 1.
    """

    @staticmethod
    def forward(rows: Tensor, matrices: Tensor) -> Tensor:
        with without_autocast(rows.device):  # the backward runs outside of it too
            return _product(matrices, rows)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        rows, matrices = ctx.saved_tensors
        of_matrices = _columns(gradient, matrices) @ _columns(rows, matrices).mT
        return _product(matrices.mT, gradient), of_matrices.reshape(matrices.shape)

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int | None, int | None], rows: Tensor, matrices: Tensor) -> tuple[Tensor, int]:
        of_rows, of_matrices = in_dims
        rows = rows.expand(info.batch_size, *rows.shape) if of_rows is None else rows.movedim(of_rows, 0)
        if of_matrices is not None:
            matrices = matrices.movedim(of_matrices, 0)
        else:
            matrices = matrices.expand(info.batch_size if _own(matrices) else 1, *matrices.shape)
        return _EveryChannel.apply(rows, matrices), 0  # type: ignore[no-untyped-call]


def _columns(rows: Tensor, matrices: Tensor) -> Tensor:
    """[*S, C, P, B] of rows [*S, *B, P, C]: S are the leading dimensions in which the matrices differ."""
    p, c = rows.shape[-2:]
    return rows.reshape(*_own(matrices), -1, p, c).permute(*range(len(_own(matrices))), -1, -2, -3)


def _product(matrices: Tensor, rows: Tensor) -> Tensor:
    """Rows [*S, *B, P, C]."""
    out = matrices.reshape(*_own(matrices), *matrices.shape[-3:]) @ _columns(rows, matrices)  # [*S, C, P, B]
    return out.permute(*range(out.dim() - 3), -1, -2, -3).reshape(rows.shape)


def _own(matrices: Tensor) -> list[int]:
    return [n for n in matrices.shape[:-3] if n != 1]
