"""PPEG on small grids, with the class token that it leaves alone, as one function of all stacked models and all bags.

The three convolutions of a channel, and the grid that they are added to, are one matrix between the grid's cells. All is
equal to `PPEG` and the split and joining of tokens around it, up to rounding.

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
from milbench_baselines.layers.small_grids import LARGEST, kernels_of, matrices_of


def is_small(tokens: Tensor, side: int) -> bool:
    """Whether tokens [1 + k k, H] go through `placed_small`: inside vmap, on a CPU, in their own precision, on a small grid."""
    if not torch._C._are_functorch_transforms_active() or not is_below_vmaps():
        return False
    if tokens.device.type != "cpu" or torch.is_autocast_enabled("cpu") or tokens.dtype not in (torch.float32, torch.float64):
        return False
    return goes_as_matrices(tokens.shape[1] * LARGEST**2, side**2)


def placed_small(tokens: Tensor, parameters: Sequence[Any], side: int) -> Tensor:
    """Tokens [1 + k k, H] of which all but the first got their position.

    `parameters` are kernel [H, 1, s, s] and bias [H] of size 7, the same of size 5, and of size 3.
    """
    return applied(_Placed, (side,), (tokens,), parameters, n_outputs=1)[0]


class _Placed(torch.autograd.Function):
    """Tokens [*S, *B, 1 + c, H] of tokens and parameters [*S, *1, ...]."""

    @staticmethod
    def forward(side: int, tokens: Tensor, *parameters: Tensor) -> tuple[Tensor, ...]:
        width = tokens.shape[-1]
        kernel7, bias7, kernel5, bias5, kernel3, bias3 = parameters
        x = tokens.reshape(bias7.numel() // width, -1, *tokens.shape[-2:])                        # [S, B, 1 + c, H]
        kernel = kernel7.clone(memory_format=torch.contiguous_format)
        kernel[..., 1:-1, 1:-1] += kernel5
        kernel[..., 2:-2, 2:-2] += kernel3
        matrices = matrices_of(kernel.view(-1, LARGEST**2), side)                                 # [S H, c, c]
        matrices.diagonal(dim1=1, dim2=2).add_(1)
        channels = _channels_first(x)                                                             # [S H, B, c]
        bias = (bias7 + bias5 + bias3).view(-1, 1, 1)
        return _joined(x, torch.baddbmm(bias, channels, matrices)).view(tokens.shape), channels, matrices

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
        channels, matrices = ctx.saved_tensors
        width = of_placed.shape[-1]
        of_y = of_placed.reshape(len(channels) // width, -1, *of_placed.shape[-2:])
        of_channels = _channels_first(of_y)
        of_kernel = kernels_of(torch.bmm(channels.mT, of_channels), ctx.side, LARGEST).view(-1, LARGEST, LARGEST)
        of_bias = of_channels.sum(dim=(1, 2))
        # each in memory of its own: clipping and further bags write into gradients
        kernels = (of_kernel, of_kernel[:, 1:-1, 1:-1].contiguous(), of_kernel[:, 2:-2, 2:-2].contiguous())
        own = [each for kernel in kernels for each in (kernel, of_bias.clone())]
        of_tokens = _joined(of_y, torch.bmm(of_channels, matrices.mT)).view(of_placed.shape)
        return None, of_tokens, *(each.reshape(shape) for each, shape in zip(own, ctx.shapes, strict=True))


def _channels_first(tokens: Tensor) -> Tensor:
    """Grids [S H, B, c] of tokens [S, B, 1 + c, H]."""
    return tokens[:, :, 1:].permute(0, 3, 1, 2).reshape(-1, tokens.shape[1], tokens.shape[2] - 1)


def _joined(tokens: Tensor, grids: Tensor) -> Tensor:
    """New tokens [S, B, 1 + c, H]: the first of `tokens`, and those of grids [S H, B, c]."""
    joined = torch.empty_like(tokens, memory_format=torch.contiguous_format)
    joined[:, :, 0] = tokens[:, :, 0]
    joined[:, :, 1:] = grids.view(len(tokens), -1, *grids.shape[1:]).permute(0, 2, 3, 1)
    return joined
