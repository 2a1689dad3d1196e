"""Depthwise convolutions of grids whose channels lie last, on rows that are in the processor's cache.

A grid is [k, k, C]. A *window* [R + s - 1, k + s - 1, C] holds what a kernel of size s reads for R of its rows. It lies in
memory without gaps, so torch hands it to oneDNN as it is, which reads channels last. Elsewhere the entries of the kernel pass one
after the other (`grid_taps`). Windows of several bags [B, ...] that share their kernels may come together.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn.functional import conv2d, pad

from milbench_baselines.layers.grid_taps import add_gradients_of_taps, convolved_by_taps, kernel_of, taps_of

WIDEST_GRADIENT = 3
"""Most columns of a kernel whose gradient oneDNN computes with its depthwise code. For more it takes code many times slower."""


def convolved(window: Tensor, kernel: Tensor, bias: Tensor | None = None) -> Tensor:
    """Convolved rows [B, R, k, C] or [R, k, C] of a window with kernels [C, 1, s, s] and biases [C]."""
    bags, of = _as_bags(window), torch.promote_types(window.dtype, torch.float32)  # sums of half precision would be rounded
    if is_convolved_fast(of):
        out = conv2d(_planes(bags.to(of)), kernel.to(of), bias, groups=len(kernel)).permute(0, 2, 3, 1)
    else:
        reach, taps = kernel.shape[-1] - 1, taps_of(kernel.to(of))
        out = bags.new_empty(len(bags), bags.shape[1] - reach, bags.shape[2] - reach, bags.shape[3], dtype=of)
        for each, own in zip(bags.to(of), out, strict=True):
            convolved_by_taps(each, taps, own)
        out = out if bias is None else out.add_(bias)
    return out.to(window.dtype).view(*window.shape[:-3], *out.shape[1:])


def convolved_whole(cells: Tensor, kernel: Tensor) -> Tensor:
    """Convolved grids [B, k, k, C] of whole grids `cells` [B, k, k, C] with kernels [C, 1, s, s]; there are zeros around."""
    rim = kernel.shape[-1] // 2
    if not is_convolved_fast(cells.dtype) or cells.dtype != kernel.dtype:
        return convolved(with_rim(cells, rim), kernel)
    return conv2d(_planes(cells), kernel, padding=rim, groups=len(kernel)).permute(0, 2, 3, 1)


def with_rim(cells: Tensor, rim: int) -> Tensor:
    """The window [B, k + 2 rim, k + 2 rim, C] of whole grids `cells` [B, k, k, C]."""
    return pad(cells, (0, 0, rim, rim, rim, rim))


def add_gradient_of_kernel(total: Tensor, window: Tensor, of_out: Tensor) -> None:
    """Add to `total` [C, 1, s, s] the kernels' gradient, from `of_out` [(B,) R, k, C], the gradient of what came from the window."""
    bags, of_bags, size = _as_bags(window).to(total.dtype), _as_bags(of_out).to(total.dtype), total.shape[-1]
    if not is_convolved_fast(total.dtype):
        taps = torch.zeros_like(taps_of(total))
        for each, own in zip(bags, of_bags, strict=True):
            add_gradients_of_taps(taps, each, own, torch.empty_like(own))
        total.add_(kernel_of(taps, total))
        return
    of_bags, width = of_bags.contiguous(), of_bags.shape[2]
    for columns in _pieces(size):
        reads = bags[:, :, columns.start : columns.stop - 1 + width].contiguous()
        total[..., columns] += _of_piece(reads, of_bags, total[..., columns])


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


def is_convolved_fast(dtype: torch.dtype) -> bool:
    """Whether oneDNN convolves such numbers: of 32 bits, on a processor whose instructions it knows."""
    has_onednn = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    return dtype == torch.float32 and has_onednn and torch.backends.cpu.get_cpu_capability() in ("AVX2", "AVX512")


def _as_bags(cells: Tensor) -> Tensor:
    """Cells [B, R, k, C] of [B, R, k, C] or [R, k, C]."""
    return cells if cells.dim() == 4 else cells[None]


def _planes(bags: Tensor) -> Tensor:
    """The same cells [B, R, k, C] as torch wants them, [B, C, R, k].

    For one bag, the new dimension must have come before the permutation. Behind it, it would get a stride from which torch
    concludes that channels do not lie last, though `is_contiguous(memory_format=torch.channels_last)` is true. torch would then
    reorder the cells before and after.
    """
    return bags.permute(0, 3, 1, 2)
