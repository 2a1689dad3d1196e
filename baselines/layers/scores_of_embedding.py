"""Scores of a bag's embedded patches, a block of patches at a time, and the random numbers of their dropout."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from milbench_baselines.layers.dropout import Dropout
from milbench_baselines.layers.products import affine
from milbench_baselines.layers.row_blocks import blocks_of


def scores_of_embedding(x: Tensor, embed: nn.Linear, dropout: Dropout, head: nn.Linear) -> tuple[Tensor, Tensor]:
    """Logits [N, W] of h_n = Dropout(ReLU(W x_n + b)), without gradient, and the lanes [N, hidden] that give the masks.

    The draws are those of `dropout(embed(x).relu())`. Lanes of some patches give their masks again (`Dropout.of_lanes`)
    and take half the memory. Not inside vmap.
    """
    scores, lanes = x.new_empty(len(x), len(head.weight)), x.new_empty(len(x), len(embed.weight), dtype=torch.int16)
    with torch.no_grad():
        for rows in blocks_of(len(x), width=len(embed.weight)):
            h = affine(x[rows], embed.weight, embed.bias).clamp_(min=0)              # [B, hidden]
            lanes[rows] = dropout.lanes(h.shape)                                     # block by block the same as at once
            h.mul_(dropout.of_lanes(lanes[rows], h))
            affine(h, head.weight, head.bias, out=scores[rows])
    return scores, lanes
