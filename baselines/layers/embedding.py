"""Embedding: the layer that every attention network of the study begins with."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from milbench_baselines.layers.dropout import Dropout
from milbench_baselines.layers.products import Linear, add_outer, affine, sum_of_rows, times
from milbench_baselines.layers.row_blocks import blocks_of, differentiable_once, goes_in_blocks, is_relu
from milbench_baselines.layers.side_by_side import linear_on_shared_bag
from milbench_baselines.layers.small_bags import is_cheap
from milbench_baselines.layers.usual import are_dropout, are_linear, is_made_of


class Embedding(nn.Sequential):
    """Rows [N, hidden] of patches [N, D]: h_n = Dropout(ReLU(W x_n + b))."""

    def __init__(self, in_features: int, hidden: int, dropout: float) -> None:
        super().__init__(Linear(in_features, hidden), nn.ReLU(), Dropout(dropout))

    def forward(self, features: Tensor) -> Tensor:
        """Rows [N, hidden]."""
        layer, relu, dropout = self
        goes = goes_in_blocks(features, dropout) and not is_cheap(features, cast(nn.Linear, layer).out_features)
        if goes and is_relu(relu) and are_linear(layer) and are_dropout(dropout):
            return _InBlocks.apply(dropout, features, layer.weight, layer.bias)  # type: ignore[no-any-return, no-untyped-call]
        return super().forward(features)  # type: ignore[no-any-return, no-untyped-call]

    @property
    def is_usual(self) -> bool:
        """Whether functions of whole layers may take this one's place."""
        return is_made_of(self, *EMBEDDING)

    @staticmethod
    def of_all(embeddings: Sequence[Embedding], features: Tensor, mask: Tensor | None = None) -> Tensor:
        """Rows [N, E, hidden] of E embeddings of the same patches [N, D]; `mask` [N, E, hidden] in place of one that is drawn."""
        if len(embeddings) == 1:
            return embeddings[0](features)[:, None]  # type: ignore[no-any-return]
        _, relu, dropout = embeddings[0]
        rows = relu(linear_on_shared_bag([each[0] for each in embeddings], features))
        return dropout(rows) if mask is None else rows * mask  # type: ignore[no-any-return]


EMBEDDING = Embedding, Linear, nn.ReLU, Dropout
"""Classes of an embedding and its parts."""


def embedded_in_blocks(dropout: Dropout, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Rows [N, hidden] = Dropout(ReLU(W x_n + b)) of patches `x` [N, D], some patches at a time."""
    h = x.new_empty(len(x), len(weight))
    for rows in blocks_of(len(x), width=len(weight)):
        embed_block(dropout, x[rows], weight, bias, out=h[rows])
    return h


def embed_block(dropout: Dropout, x: Tensor, weight: Tensor, bias: Tensor, *, out: Tensor) -> Tensor:
    """Rows [B, hidden], in `out`, of some patches. Block after block, the mask is the one that all patches at once would get."""
    affine(x, weight, bias, out=out).relu_()
    return out.mul_(dropout.mask(out.shape, like=out)) if dropout.draws else out


class EmbeddingGradients:
    """Backward of an embedding, block by block.

    Parameters
    ----------
    factor : of its dropout, `Dropout.factor`.
    x, weight : patches [N, D] and weight [hidden, D] of the forward.
    wants_x : whether the patches' gradient is wanted.

    Attributes
    ----------
    of_x, of_weight, of_bias : gradients, complete after the last block. The first starts at patch 0.
    """

    def __init__(self, factor: float, x: Tensor, weight: Tensor, *, wants_x: bool) -> None:
        self.factor, self.x, self.weight = factor, x, weight
        self.of_x = torch.empty_like(x) if wants_x else None
        self.of_weight, self.of_bias = torch.empty_like(weight), weight.new_zeros(len(weight))

    def add(self, at: slice, h: Tensor, of_h: Tensor, *, is_own: bool = False) -> None:
        """Take in the gradient [B, hidden] of the rows `h` [B, hidden] at places `at` of the bag; `is_own`: it may be written over."""
        of_z = of_h if is_own else torch.empty_like(of_h)
        torch.ops.aten.threshold_backward.grad_input(of_h, h, 0, grad_input=of_z)  # above zero, ReLU and mask let pass
        if self.factor != 1:
            of_z.mul_(self.factor)
        add_outer(self.of_weight, of_z, self.x[at], is_first=at.start == 0)
        self.of_bias += sum_of_rows(of_z)
        if self.of_x is not None:
            times(of_z, self.weight, out=self.of_x[at])


class _InBlocks(torch.autograd.Function):
    """An embedding whose backward needs the result alone."""

    @staticmethod
    def forward(dropout: Dropout, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        return embedded_in_blocks(dropout, x, weight, bias)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        dropout, x, weight, _ = inputs
        ctx.factor = dropout.factor
        ctx.save_for_backward(x, weight, output)

    @staticmethod
    @differentiable_once
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        x, weight, h = ctx.saved_tensors
        found = EmbeddingGradients(ctx.factor, x, weight, wants_x=ctx.needs_input_grad[1])
        for rows in blocks_of(len(x), width=len(weight)):
            found.add(rows, h[rows], gradient[rows])
        return None, found.of_x, found.of_weight, found.of_bias
