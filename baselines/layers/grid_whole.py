"""Depthwise convolution of a grid that lies in the cache as a whole, on a CPU.

It is torch's, with channels last, except for the gradient of the kernels, for which torch takes slow code if they are wide
(`grid_convolution`). Without the strips' other steps, a small grid takes half of their time.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from milbench_baselines.layers.grid_convolution import (
    add_gradient_of_kernel,
    convolved_whole,
    is_convolved_fast,
    with_rim,
)
from milbench_baselines.layers.grid_taps import numbers_of_a_block
from milbench_baselines.layers.row_blocks import differentiable_once

BLOCKS = 4
"""Blocks of a grid (`grid_taps.numbers_of_a_block`) up to which it goes as a whole: a copy of it still lies in the cache."""


def goes_whole(rows: Tensor, kernel: Tensor) -> bool:
    """Whether a grid `rows` [k k, C] with kernels [C, 1, s, s] is convolved at once by `whole`."""
    if torch.compiler.is_compiling() or torch._C._are_functorch_transforms_active() or torch.is_autocast_enabled("cpu"):
        return False
    if rows.device.type != "cpu" or rows.dtype != kernel.dtype or not is_convolved_fast(rows.dtype):
        return False
    return rows.numel() <= BLOCKS * numbers_of_a_block()


def whole(rows: Tensor, kernel: Tensor, side: int) -> Tensor:
    """Convolved grid [k k, C] of `rows` [k k, C] of a grid of `side` k with kernels [C, 1, s, s]; there are zeros around."""
    return _Whole.apply(rows, kernel, side)  # type: ignore[no-any-return, no-untyped-call]


class _Whole(torch.autograd.Function):
    """The old kind of function, which `torch.func` cannot transform: torch starts it in half the time."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, kernel: Tensor, side: int) -> Tensor:  # type: ignore[override]
        ctx.save_for_backward(rows, kernel)
        ctx.side = side
        return convolved_whole(rows.reshape(1, side, side, -1), kernel).view(rows.shape)

    @staticmethod
    @differentiable_once
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        rows, kernel = ctx.saved_tensors
        cells, of_out = (each.reshape(1, ctx.side, ctx.side, -1) for each in (rows, gradient))
        of_rows = of_kernel = None
        if ctx.needs_input_grad[0]:
            of_rows = convolved_whole(of_out, kernel.flip(-1, -2)).view(rows.shape)
        if ctx.needs_input_grad[1]:
            of_kernel = torch.zeros_like(kernel)
            add_gradient_of_kernel(of_kernel, with_rim(cells, kernel.shape[-1] // 2), of_out)
        return of_rows, of_kernel, None
