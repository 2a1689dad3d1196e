"""Depthwise convolutions of a grid whose channels lie last, on rows that are in the processor's cache.

A grid is [k, k, C]. A *window* [R + s - 1, k + s - 1, C] holds what a kernel of size s reads for R of its rows. It lies in
memory without gaps, so torch hands it to oneDNN as it is, which reads channels last. Elsewhere the entries of the kernel pass one
after the other (`grid_taps`).
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn.functional import conv2d

from milbench_baselines.layers.grid_taps import add_gradients_of_taps, convolved_by_taps, kernel_of, taps_of

WIDEST_GRADIENT = 3
"""Most columns of a kernel whose gradient oneDNN computes with its depthwise code. For more it takes code many times slower."""


def convolved(window: Tensor, kernel: Tensor, bias: Tensor | None = None) -> Tensor:
    """Convolved rows [R, k, C] of a window with kernels [C, 1, s, s] and biases [C]."""
    if _is_fast(window):
        return _cells(conv2d(_planes(window), kernel, bias, groups=len(kernel)))
    reach = kernel.shape[-1] - 1
    out = window.new_empty(window.shape[0] - reach, window.shape[1] - reach, window.shape[2])
    convolved_by_taps(window, taps_of(kernel), out)
    return out if bias is None else out.add_(bias)


def add_gradient_of_kernel(total: Tensor, window: Tensor, of_out: Tensor) -> None:
    """Add to `total` [C, 1, s, s] the kernels' gradient, from `of_out` [R, k, C], the gradient of what came from the window."""
    if not _is_fast(window):
        taps = torch.zeros_like(taps_of(total))
        add_gradients_of_taps(taps, window, of_out, torch.empty_like(of_out))
        total.add_(kernel_of(taps, total))
        return
    height, width = total.shape[-1], of_out.shape[1]
    for columns in _pieces(height):
        reads = window[:, columns.start : columns.stop - 1 + width].contiguous()
        total[..., columns] += _of_piece(reads, of_out, total[..., columns])


def _of_piece(window: Tensor, of_out: Tensor, kernel: Tensor) -> Tensor:
    """Gradient of the shape of `kernel` [C, 1, a, b], of which only the shape is read."""
    wanted = (False, True, False)
    _, found, _ = torch.ops.aten.convolution_backward(
        _planes(of_out), _planes(window), kernel, None, (1, 1), (0, 0), (1, 1), False, (0, 0), len(kernel), wanted  # noqa: FBT003
    )
    return found  # type: ignore[no-any-return]


def _pieces(size: int) -> Iterator[slice]:
    """Slices of a kernel's columns, each of at most `WIDEST_GRADIENT`."""
    for start in range(0, size, WIDEST_GRADIENT):
        yield slice(start, min(start + WIDEST_GRADIENT, size))


def _is_fast(window: Tensor) -> bool:
    """Whether oneDNN convolves it: numbers of 32 bits, on a processor whose instructions it knows."""
    has_onednn = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    return window.dtype == torch.float32 and has_onednn and torch.backends.cpu.get_cpu_capability() in ("AVX2", "AVX512")


def _planes(cells: Tensor) -> Tensor:
    """The same cells [R, k, C] as torch wants them, [1, C, R, k].

    The new dimension must come first. After a permutation it would get a stride from which torch concludes that channels do not
    lie last, though `is_contiguous(memory_format=torch.channels_last)` is true, and it would reorder the cells.
    """
    return cells[None].permute(0, 3, 1, 2)


def _cells(planes: Tensor) -> Tensor:
    """Cells [R, k, C] of [1, C, R, k]."""
    return planes[0].permute(1, 2, 0)
