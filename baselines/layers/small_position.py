"""PPEG on small grids, with the class token that it leaves alone, as one function of all stacked models and all bags.

The three convolutions of a channel, and the grid that they are added to, are one convolution with one kernel. All models'
channels go through it side by side, the channel last in memory, as tokens have it. For the kernel's gradient torch takes ten times
as long as a product of each channel's cells. All is equal to `PPEG` and the split and joining of tokens around it, up to rounding.

Shapes: S stacked models, B bags of 1 + c tokens, c = k k cells of a grid; H channels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from milbench_baselines.layers.below_vmap import applied, is_below_vmaps
from milbench_baselines.layers.depthwise import goes_as_matrices
from milbench_baselines.layers.row_blocks import differentiable_once
from milbench_baselines.layers.small_grids import LARGEST, kernels_of


def is_small(tokens: Tensor, side: int) -> bool:
    """Whether tokens [1 + k k, H] go through `placed_small`: inside vmap, on a CPU, in their own precision, on a small grid."""
    if not torch._C._are_functorch_transforms_active() or not is_below_vmaps():
        return False
    if tokens.device.type != "cpu" or torch.is_autocast_enabled("cpu") or tokens.dtype not in (torch.float32, torch.float64):
        return False
    return is_small_grid(tokens.shape[1], side)


def is_small_grid(width: int, side: int) -> bool:
    """Whether a grid of this side, with so many channels, is small enough for `placed_small`."""
    return goes_as_matrices(width * LARGEST**2, side**2)


def placed_small(tokens: Tensor, parameters: Sequence[Any], side: int) -> Tensor:
    """Tokens [1 + k k, H] of which all but the first got their position.

    `parameters` are kernel [H, 1, s, s] and bias [H] of size 7, the same of size 5, and of size 3.
    """
    return applied(_Placed, (side,), (tokens,), parameters, n_outputs=1)[0]


class _Placed(torch.autograd.Function):
    """Tokens [*S, *B, 1 + c, H] of tokens and parameters [*S, *1, ...]."""

    @staticmethod
    def forward(side: int, tokens: Tensor, *parameters: Tensor) -> tuple[Tensor, ...]:
        kernel7, bias7, kernel5, bias5, kernel3, bias3 = parameters
        x = tokens.reshape(bias7.numel() // tokens.shape[-1], -1, *tokens.shape[-2:])             # [S, B, 1 + c, H]
        kernel = kernel7.clone(memory_format=torch.contiguous_format)
        kernel[..., 1:-1, 1:-1] += kernel5
        kernel[..., 2:-2, 2:-2] += kernel3
        kernel[..., LARGEST // 2, LARGEST // 2] += 1                                              # x + its convolution
        kernel, grids = kernel.view(-1, 1, LARGEST, LARGEST), _grids(x, side)
        placed = _convolved(grids, kernel, (bias7 + bias5 + bias3).flatten())
        return _joined(x, placed).view(tokens.shape), grids, kernel

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        ctx.side, _, *parameters = inputs
        ctx.shapes = [each.shape for each in parameters]
        ctx.save_for_backward(*output[1:])
        ctx.mark_non_differentiable(*output[1:])
        ctx.set_materialize_grads(False)

    @staticmethod
    @differentiable_once
    def backward(ctx: Any, of_placed: Tensor | None, *_: None) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        if of_placed is None:
            return (None,) * 8
        grids, kernel = ctx.saved_tensors
        width = of_placed.shape[-1]
        of_y = of_placed.reshape(len(kernel) // width, -1, *of_placed.shape[-2:])
        of_grids = _grids(of_y, ctx.side)
        of_matrices = torch.bmm(_channels_first(grids).mT, _channels_first(of_grids))
        of_kernel = kernels_of(of_matrices, ctx.side, LARGEST).reshape(-1, LARGEST, LARGEST)
        of_bias = of_grids.sum(dim=(0, 2, 3))
        # each in memory of its own: clipping and further bags write into gradients
        kernels = [each.contiguous() for each in (of_kernel, of_kernel[:, 1:-1, 1:-1], of_kernel[:, 2:-2, 2:-2])]
        own = [each for of_own in kernels for each in (of_own, of_bias.clone())]
        of_tokens = _joined(of_y, _convolved(of_grids, kernel.flip(2, 3), None)).view(of_placed.shape)
        return None, of_tokens, *(each.reshape(shape) for each, shape in zip(own, ctx.shapes, strict=True))


def _grids(tokens: Tensor, side: int) -> Tensor:
    """Grids [B, S H, k, k], the channel last in memory, of tokens [S, B, 1 + c, H]."""
    rows = tokens[:, :, 1:].permute(1, 2, 0, 3).reshape(tokens.shape[1], side, side, -1)
    return rows.permute(0, 3, 1, 2)


def _convolved(grids: Tensor, kernel: Tensor, bias: Tensor | None) -> Tensor:
    """Each channel of grids [B, S H, k, k] convolved with its own kernel [S H, 1, s, s]."""
    return torch.conv2d(grids, kernel, bias, padding=LARGEST // 2, groups=len(kernel))


def _channels_first(grids: Tensor) -> Tensor:
    """Cells [S H, B, c] of grids [B, S H, k, k]."""
    rows = grids.permute(0, 2, 3, 1).flatten(0, 2)                                                # [B c, S H]
    return rows.T.contiguous().view(grids.shape[1], len(grids), -1)


def _joined(tokens: Tensor, grids: Tensor) -> Tensor:
    """New tokens [S, B, 1 + c, H]: the first of `tokens`, and those of grids [B, S H, k, k]."""
    joined = torch.empty_like(tokens, memory_format=torch.contiguous_format)
    joined[:, :, 0] = tokens[:, :, 0]
    cells = grids.permute(0, 2, 3, 1).flatten(1, 2)                                               # [B, c, S H]
    joined[:, :, 1:] = torch.unflatten(cells, 2, (len(tokens), -1)).permute(2, 0, 1, 3)
    return joined
