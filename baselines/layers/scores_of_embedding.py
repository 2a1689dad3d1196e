"""Scores of a bag's embedded patches, a block of patches at a time, and the random numbers of their dropout."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.func import vmap
from torch.nn.functional import linear

from milbench_baselines.layers.dropout import Dropout
from milbench_baselines.layers.row_blocks import blocks_of


def scores_of_embedding(x: Tensor, embed: nn.Linear, dropout: Dropout, head: nn.Linear) -> tuple[Tensor, Tensor]:
    """Logits [N, W] of h_n = Dropout(ReLU(W x_n + b)), without gradient, and the lanes [N, hidden] that give the masks.

    The draws are those of `dropout(embed(x).relu())`. Lanes of some patches give their masks again (`Dropout.of_lanes`)
    and take half the memory. It works inside vmap, where it is not in blocks.
    """
    return _ScoresOfEmbedding.apply(  # type: ignore[no-untyped-call, no-any-return]
        dropout, x, embed.weight, embed.bias, head.weight, head.bias
    )


class _ScoresOfEmbedding(torch.autograd.Function):
    """Without a gradient; a function only because it works inside vmap in another way than outside."""

    @staticmethod
    def forward(*inputs: Any) -> tuple[Tensor, Tensor]:
        dropout, x, weight, bias, head, head_bias = inputs
        scores, lanes = x.new_empty(len(x), len(head)), x.new_empty(len(x), len(weight), dtype=torch.int16)
        for rows in blocks_of(len(x)):
            h = torch.addmm(bias, x[rows], weight.T).clamp_(min=0)              # [B, hidden]
            lanes[rows] = dropout.lanes(h.shape)                                # block by block the same as at once
            h.mul_(dropout.of_lanes(lanes[rows], h))
            torch.addmm(head_bias, h, head.T, out=scores[rows])
        return scores, lanes

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
        ctx.mark_non_differentiable(*output)

    @staticmethod
    def vmap(
        info: Any, in_dims: tuple[int | None, ...], dropout: Dropout, *tensors: Tensor
    ) -> tuple[tuple[Tensor, Tensor], tuple[int, int]]:
        def plain(x: Tensor, weight: Tensor, bias: Tensor, head: Tensor, head_bias: Tensor) -> tuple[Tensor, Tensor]:
            h = linear(x, weight, bias).relu()
            lanes = dropout.lanes(h.shape)
            return linear(h * dropout.of_lanes(lanes, h), head, head_bias), lanes

        return vmap(plain, in_dims[1:], randomness=info.randomness)(*tensors), (0, 0)
