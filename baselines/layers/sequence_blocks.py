"""Depthwise convolution along a sequence by products of blocks, with its gradients written out.

Every block of rows is one product of a banded matrix with the block and its rim. torch's own convolution of a long
sequence with few kernels is several times slower on a CPU.

Shapes: G sequences, S sets of kernels for them (G is a multiple of S), n rows, h heads of d channels, kernels of odd length s.
"""

from __future__ import annotations

import torch
from torch import Tensor

from milbench_baselines.layers.constants import made_once

BLOCK = 32
"""Rows of a block. A block reads s - 1 more rows than it writes, so a small one wastes products and a large one zeros."""

ROWS_OF_A_MATRIX = 64
"""Rows of a sequence that is one block without a rim."""


def add_convolved(out: Tensor, rows: Tensor, kernels: Tensor) -> None:
    """Add the convolved `rows` [G, n, h, d] of kernels [S, h, s] to `out` [G, n, h, d]; there are zeros around `rows`."""
    matrices, n_heads = _banded(kernels, rows.shape[1]), rows.shape[2]
    for head in range(n_heads):
        windows = _windows(rows[:, :, head], kernels.shape[-1], len(kernels))        # [S, B, blocks, W, d]
        found = (matrices[:, None, None, head] @ windows).flatten(0, 1).flatten(1, 2)  # [G, blocks R, d]
        out[:, :, head] += found[:, : rows.shape[1]]


def of_kernels(of_out: Tensor, rows: Tensor, kernels: Tensor) -> Tensor:
    """Gradient [S, h, s] with respect to the kernels, from that of the convolved rows [G, n, h, d]."""
    (n_sets, n_heads, size), n = kernels.shape, rows.shape[1]
    found = []
    for head in range(n_heads):
        windows = _windows(rows[:, :, head], size, n_sets)                           # [S, B, blocks, W, d]
        blocks = _blocks(of_out[:, :, head], n_sets, windows.shape[2])               # [S, B, blocks, R, d]
        found.append((blocks @ windows.mT).flatten(1, 2).sum(dim=1).flatten(1))      # [S, R W]
    return torch.stack(found, dim=1) @ _reads(n, size, kernels.dtype, kernels.device).mT


def _banded(kernels: Tensor, n: int) -> Tensor:
    """Matrices [S, h, R, W] that convolve a block."""
    reads = _reads(n, kernels.shape[-1], kernels.dtype, kernels.device)
    height = n if n <= ROWS_OF_A_MATRIX else BLOCK
    banded = (kernels @ reads).to(kernels.dtype)  # `milbench.training.precision` returns thin products in float32
    return torch.unflatten(banded, -1, (height, -1))


def _windows(rows: Tensor, size: int, n_sets: int) -> Tensor:
    """Windows [S, B, blocks, W, d] of `rows` [G, n, d]: what each block reads."""
    n_rows, width = rows.shape[1:]
    if n_rows <= ROWS_OF_A_MATRIX:
        return rows.reshape(n_sets, -1, 1, n_rows, width)
    n_blocks, window = -(-n_rows // BLOCK), BLOCK + size - 1
    padded = rows.new_zeros(len(rows), n_blocks * BLOCK + size - 1, width)
    padded[:, size // 2 : size // 2 + n_rows] = rows
    shape, strides = (len(rows), n_blocks, window, width), (padded.stride(0), BLOCK * width, width, 1)
    return torch.unflatten(padded.as_strided(shape, strides), 0, (n_sets, -1))


def _blocks(rows: Tensor, n_sets: int, n_blocks: int) -> Tensor:
    """Blocks [S, B, blocks, R, d] of `rows` [G, n, d], the last one filled with zeros."""
    n_rows, width = rows.shape[1:]
    if n_rows <= ROWS_OF_A_MATRIX:
        return rows.reshape(n_sets, -1, 1, n_rows, width)
    padded = rows.new_zeros(len(rows), n_blocks * BLOCK, width)
    padded[:, :n_rows] = rows
    return padded.reshape(n_sets, -1, n_blocks, BLOCK, width)


def reads_of_a_matrix(n: int, size: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Reads [s, n n] of a sequence of n <= ROWS_OF_A_MATRIX rows, for kernels of length `size`."""
    return _reads(n, size, dtype, device)


@made_once
def _reads(n: int, size: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Reads [s, R W]: 1 where a row of a block reads a row of its window through that entry of the kernel, else 0."""
    n_in, n_out, before = (n, n, size // 2) if n <= ROWS_OF_A_MATRIX else (BLOCK + size - 1, BLOCK, 0)
    # made on the device: a copy would let a GPU's stream wait for the CPU
    ahead = torch.arange(n_in, device=device)[None] - torch.arange(n_out, device=device)[:, None] + before  # [out, in]
    return torch.stack([ahead == e for e in range(size)]).flatten(1).to(dtype)
