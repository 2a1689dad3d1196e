"""Depthwise convolutions of a grid, one entry of the kernels at a time, on rows that are in the processor's cache.

A grid is [k, k, C] with its channels last, and its kernels are *taps* [s s, C]: tap (a, b) multiplies the cell that lies
a - s//2 rows below and b - s//2 columns to the right. `grid_convolution` says when they go this way.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import isqrt

import torch
from torch import Tensor

NUMBERS_OF_A_BLOCK = 2**18
"""Numbers of some rows of a grid that are worked on together: 1 MB in float32, half of a usual second-level cache."""


def numbers_of_a_block() -> int:
    """`NUMBERS_OF_A_BLOCK` for each thread: threads share the numbers of an operation, and each core has its cache."""
    return NUMBERS_OF_A_BLOCK * torch.get_num_threads()


def taps_of(kernel: Tensor) -> Tensor:
    """Taps [s s, C] of a depthwise kernel [C, 1, s, s]."""
    return kernel.flatten(1).T.contiguous()


def kernel_of(taps: Tensor, like: Tensor) -> Tensor:
    """Kernel of the shape of `like` [C, 1, s, s] with these taps [s s, C]."""
    return taps.T.reshape(like.shape)


def row_blocks(side: int, channels: int) -> Iterator[slice]:
    """Slices of a grid's k rows, each of about `NUMBERS_OF_A_BLOCK` numbers."""
    rows = max(1, numbers_of_a_block() // (side * channels))
    for start in range(0, side, rows):
        yield slice(start, min(start + rows, side))


def convolved_by_taps(window: Tensor, taps: Tensor, out: Tensor) -> Tensor:
    """Convolved rows [R, k, C], in `out`, of a window [R + s - 1, k + s - 1, C]."""
    factors = taps.unbind()
    for part in _parts(out):
        own = out[part]
        for tap, shifted in enumerate(_shifted(window, part, len(taps), out)):
            if tap:
                own.addcmul_(shifted, factors[tap])
            else:
                torch.mul(shifted, factors[0], out=own)
    return out


def add_gradients_of_taps(total: Tensor, window: Tensor, of_out: Tensor, spare: Tensor) -> None:
    """Add to `total` [s s, C] the taps' gradient, from `of_out` [R, k, C], the gradient of the rows convolved from a window.

    `spare` [R, k, C] is overwritten.
    """
    totals = total.unbind()
    for part in _parts(of_out):
        own, made = of_out[part], spare[part]
        products, ones = made.reshape(-1, made.shape[2]).T, made.new_ones(made.shape[0] * made.shape[1])
        for each, shifted in zip(totals, _shifted(window, part, len(total), of_out), strict=True):
            torch.mul(own, shifted, out=made)
            each.addmv_(products, ones)


def _parts(rows: Tensor) -> Iterator[slice]:
    """Slices of rows [R, k, C], so small that three of them stay in the cache while the taps pass."""
    size = max(1, numbers_of_a_block() // 2 // (rows.shape[1] * rows.shape[2]))
    for start in range(0, len(rows), size):
        yield slice(start, min(start + size, len(rows)))


def _shifted(window: Tensor, rows: slice, n_taps: int, like: Tensor) -> Iterator[Tensor]:
    """Views [R, k, C] of a window [.., .., C], one per tap: the cells that it multiplies for some rows of `like` [.., k, C]."""
    size, (down, right, _) = isqrt(n_taps), window.stride()
    shape = (size, size, rows.stop - rows.start, *like.shape[1:])
    views = window[rows.start :].as_strided(shape, (down, right, *window.stride()))
    for row_of_taps in views.unbind():
        yield from row_of_taps.unbind()
