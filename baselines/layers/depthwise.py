"""Depthwise convolution of a bag's grid or sequence: every channel with its own kernel.

Small grids are convolved by one matrix product per channel. torch's own convolution spends most of its time on starting if
grids are a few cells wide. On a CPU, grids with wide kernels go as a whole (`grid_whole`), and large grids in strips (`grid_strips`).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import conv2d, pad

from milbench_baselines.layers.constants import made_once
from milbench_baselines.layers.grid_convolution import WIDEST_GRADIENT
from milbench_baselines.layers.grid_strips import in_strips
from milbench_baselines.layers.grid_whole import goes_whole, whole
from milbench_baselines.layers.precision import as_in_products
from milbench_baselines.layers.side_by_side import by_its_own

CELLS_OF_A_MATRIX = 64
"""Most cells of a grid that is convolved by matrices.

A matrix has the square of that many entries, so a larger grid would take memory that a convolution does not.
"""

CELLS_OF_ONE_CONVOLUTION = 512
"""Most cells of a grid that goes through torch's convolution, and not in strips, on a CPU."""

MULTIPLY_ADDS_OF_ONE_CONVOLUTION = 2**22
"""Highest cost at which wide kernels do. With more, torch's gradient of such kernels takes longer than the strips'."""

BLOCK = 32
"""Number of a sequence's rows that a GPU convolves in one product."""

MULTIPLY_ADDS_OF_A_MATRIX = 6e6
"""Highest cost of writing the kernels as matrices at which products are no slower than conv2d, even for one bag."""


def depthwise(rows: Sequence[Tensor], kernels: Sequence[Tensor], side: int) -> list[Tensor]:
    """Convolved grids [k k, C], one per grid of `rows` [k k, C], row by row, with its kernels [C, 1, s, s], s odd.

    There are zeros around a grid.
    """
    if all(goes_as_matrices(len(kernel) * kernel.shape[-1] ** 2, side**2) for kernel in kernels):
        written = [kernel.flatten(1) @ reads(side, kernel.shape[-1], kernel.dtype, kernel.device) for kernel in kernels]
        matrices, cells = _joined(written, 0).to(kernels[0].dtype), side**2                      # [C, k k k k]
        out = by_its_own(_joined(rows, 1).mT[:, None], matrices.reshape(-1, cells, cells))      # [C, 1, k k]
        return list(torch.split(out.squeeze(1).mT, [len(kernel) for kernel in kernels], dim=1))
    return [_convolved(*each, side) for each in zip(rows, kernels, strict=True)]


def _joined(tensors: Sequence[Tensor], dim: int) -> Tensor:
    return tensors[0] if len(tensors) == 1 else torch.cat(list(tensors), dim)


def _convolved(rows: Tensor, kernel: Tensor, side: int) -> Tensor:
    cells, is_narrow = side**2, kernel.shape[-1] <= WIDEST_GRADIENT
    is_small = cells <= CELLS_OF_ONE_CONVOLUTION
    if not (is_small and is_narrow):
        if goes_whole(rows, kernel):
            return whole(rows, kernel, side)
        if rows.device.type == "cpu" and not (is_small and cells * kernel.numel() <= MULTIPLY_ADDS_OF_ONE_CONVOLUTION):
            return in_strips(as_in_products(rows), as_in_products(kernel), side)
    # the new dimension first: see `grid_convolution._planes`
    grid = rows.reshape(side, side, -1)[None].permute(0, 3, 1, 2)                             # [1, C, k, k], a view
    return _conv2d(grid, kernel, padding=kernel.shape[-1] // 2)[0].permute(1, 2, 0).flatten(0, 1)


def along(rows: Tensor, kernel: Tensor, wanted: slice) -> Tensor:
    """Convolved rows [H, wanted, d] of H heads: `rows` [H, L, d] along L with kernels [H, s], s odd, zeros around.

    Only the rows of the slice `wanted` are computed, where that saves anything.
    """
    heads, length, _ = rows.shape
    size = kernel.shape[-1]
    if goes_as_matrices(heads * size, length):
        matrices = kernel @ _reads_along(length, size, kernel.dtype, kernel.device).flatten(1)  # [H, L L]
        return matrices.reshape(heads, length, length)[:, wanted] @ rows
    needed = pad(rows, (0, 0, size // 2, size // 2))[:, wanted.start : wanted.stop + size - 1]
    return _in_blocks(needed, kernel) if rows.is_cuda else _conv2d(needed[None], kernel[:, None, :, None])[0]


def _in_blocks(rows: Tensor, kernel: Tensor) -> Tensor:
    """Convolved rows [H, L, d] of rows [H, L + s - 1, d] with kernels [H, s]: one product per block and its neighbours.

    For GPUs: torch's convolution of a long sequence with few kernels gives a GPU too little to do at a time.
    """
    heads, size = kernel.shape
    length, window = rows.shape[1] - size + 1, BLOCK + size - 1
    n_blocks = -(-length // BLOCK)
    starts = range(0, window, BLOCK)
    rows = pad(rows, (0, 0, 0, (n_blocks - 1) * BLOCK + len(starts) * BLOCK - rows.shape[1]))
    pieces = [rows[:, i : i + n_blocks * BLOCK].reshape(heads, n_blocks, BLOCK, -1)[:, :, : window - i] for i in starts]
    matrices = (kernel @ _reads_in_window(size, kernel.dtype, kernel.device)).reshape(heads, 1, BLOCK, window)
    return (matrices @ torch.cat(pieces, dim=2)).reshape(heads, n_blocks * BLOCK, -1)[:, :length]


def _conv2d(rows: Tensor, kernel: Tensor, padding: int = 0) -> Tensor:
    """Convolution of every channel with its own kernel, in the dtype of products: inside vmap, autocast skips it on a CPU."""
    return conv2d(as_in_products(rows), as_in_products(kernel), padding=padding, groups=len(kernel))


def goes_as_matrices(entries: int, cells: int) -> bool:
    """Whether kernels with this many entries in total are written as matrices between this many cells."""
    return cells <= CELLS_OF_A_MATRIX and entries * cells**2 <= MULTIPLY_ADDS_OF_A_MATRIX


@made_once
def reads(side: int, size: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Reads [s s, k k k k] of a grid: 1 where an output cell reads an input cell through that entry of the kernel, else 0."""
    one = _reads_along(side, size, dtype, device)
    return torch.einsum("apq,brs->abprqs", one, one).reshape(size**2, -1)


@made_once
def _reads_along(length: int, size: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Reads [s, L, L] of a sequence: 1 where an output row reads an input row through that entry of the kernel, else 0."""
    places = torch.arange(length, device=device)  # made there: a copy would let a GPU's stream wait for the CPU
    entry = places[None] - places[:, None] + size // 2                                          # [out, in]
    return torch.stack([entry == e for e in range(size)]).to(dtype)


@made_once
def _reads_in_window(size: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Reads [s, B (B + s - 1)] of a block: 1 where its row reads a row of its window through that entry, else 0."""
    window, block = (torch.arange(n, device=device) for n in (BLOCK + size - 1, BLOCK))
    ahead = window[None] - block[:, None]                                                       # [out, in]
    return torch.stack([ahead == e for e in range(size)]).flatten(1).to(dtype)
