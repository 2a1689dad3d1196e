"""Mean of a bag's embedding, a block of patches at a time, with nothing per patch kept for the backward.

With h_n = Dropout(ReLU(W x_n + b)) every patch of the mean has the same gradient g / N. So, where c is the factor of
dropout and [h > 0] is 1 or 0::

    dW = c g / N * sum_n [h_n > 0] x_n^T,    db = c g / N * sum_n [h_n > 0]

The two sums do not depend on g. The forward takes them, if a backward may follow, while a block is in the cache.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from milbench_baselines.layers.dropout import Dropout
from milbench_baselines.layers.products import add_outer, affine
from milbench_baselines.layers.row_blocks import blocks_of, differentiable_once


def mean_of_embedding(x: Tensor, embed: nn.Linear, dropout: Dropout, head: nn.Linear) -> tuple[Tensor, Tensor]:
    """Mean [hidden] of h_n over the patches of `x` [N, D], and the logits [N, W] of every h_n, without gradient.

    The draws are those of `dropout(embed(x).relu())`. `x` gets no gradient. Not inside vmap.
    """
    mean, scores, _, _ = _MeanOfEmbedding.apply(  # type: ignore[no-untyped-call]
        torch.is_grad_enabled(), dropout, x, embed.weight, embed.bias, head.weight, head.bias
    )
    return mean, scores


class _MeanOfEmbedding(torch.autograd.Function):
    """Mean [hidden], logits [N, W], and the sums over patches that the gradients of W and b are made of."""

    @staticmethod
    def forward(*inputs: Any) -> tuple[Tensor, Tensor, Tensor, Tensor]:  # torch looks at each named argument at every call
        keeps, dropout, x, weight, bias, head, head_bias = inputs
        scores, total = x.new_empty(len(x), len(head)), torch.zeros_like(bias)
        of_weight, of_bias = weight.new_empty(weight.shape if keeps else 0), torch.zeros_like(bias)
        for rows in blocks_of(len(x), width=len(weight)):
            h = affine(x[rows], weight, bias).clamp_(min=0)               # [B, hidden]
            if dropout.draws:
                h.mul_(dropout.mask(h.shape, like=h))                     # block by block the same numbers as at once
            total += h.sum(dim=0)
            affine(h, head, head_bias, out=scores[rows])
            if keeps:
                h.sign_()                                                 # [h > 0], for none is below 0
                add_outer(of_weight, h, x[rows], is_first=rows.start == 0)
                of_bias += h.sum(dim=0)
        return total / len(x), scores, of_weight, of_bias

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        ctx.save_for_backward(*output[2:])
        ctx.factor = inputs[1].factor / len(inputs[2])
        ctx.mark_non_differentiable(*output[1:])
        ctx.set_materialize_grads(False)

    @staticmethod
    @differentiable_once
    def backward(ctx: Any, of_mean: Tensor | None, *_: None) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        if of_mean is None:
            return (None,) * 7
        of_weight, of_bias = ctx.saved_tensors
        each = of_mean * ctx.factor                                       # [hidden]
        return None, None, None, each[:, None] * of_weight, each * of_bias, None, None
