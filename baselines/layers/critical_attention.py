"""Attention by likeness to a critical patch, block by block: DSMIL's two streams, read from a large bag in two passes.

s_n = W x_n + w;  i_c = argmax_n s_nc;  q_n = tanh(W2 ReLU(W1 x_n + b1) + b2)
A_cn = softmax_n q_n . q_{i_c} / sqrt(width);  R_c = sum_n A_cn x_n
(Li et al., CVPR 2021, eq. 2 to 6, with the official nonlinear query)

Operation by operation, a step would read the bag five times: for scores, queries, R, and in the backward for the gradients of
A and of W1. In blocks, scores and queries share one reading, and so do both gradients.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from milbench_baselines.layers.products import add_outer, affine, times
from milbench_baselines.layers.row_blocks import blocks_of, differentiable_once


class Query(NamedTuple):
    """Weights of a query: [Q, K], [Q], [Q, Q] and [Q]."""

    first: Tensor
    first_bias: Tensor
    second: Tensor
    second_bias: Tensor


class Attended(NamedTuple):
    """Scores [N, C], places [C] of the critical patches, attention [C, N] and bag rows [C, K]. The first two have no gradient."""

    scores: Tensor
    places: Tensor
    attention: Tensor
    rows: Tensor


def attended_in_blocks(x: Tensor, mask: Tensor, score: nn.Linear, query: nn.Sequential, scale: float) -> Attended:
    """Both streams of patches `x` [N, K], float32 or float64.

    Parameters
    ----------
    mask : [N], 0, or -inf at patches that are left out.
    score : K -> C; no gradient of it is taken here.
    query : Linear, ReLU, Linear, tanh.
    scale : of the likeness, 1 / sqrt(width).
    """
    layers: list[Any] = [query[0], query[2]]
    weights = [parameter for layer in layers for parameter in (layer.weight, layer.bias)]
    fixed = (mask, score.weight.detach(), score.bias.detach(), scale)
    if not torch.is_grad_enabled():
        return _attended(x, *fixed, *weights)[0]
    scores, places, attention, rows, *_ = _InBlocks.apply(*fixed, x, *weights)  # type: ignore[no-untyped-call]
    return Attended(scores, places, attention, rows)


def _attended(
    x: Tensor, mask: Tensor, score: Tensor, score_bias: Tensor, scale: float, *weights: Tensor, keeps: bool = False
) -> tuple[Attended, Tensor, Tensor]:
    """Both streams, the queries [N, Q], and what the query's ReLU made of all patches or, without `keeps`, of the last block."""
    of, n = Query(*weights), len(x)
    blocks = blocks_of(n, width=len(of.second))
    scores, queries = x.new_empty(n, len(score)), x.new_empty(n, len(of.second))
    hidden = x.new_empty(n if keeps else blocks[0].stop, len(of.first))
    for at in blocks:
        torch.addmm(score_bias, x[at], score.T, out=scores[at])
        own = affine(x[at], of.first, of.first_bias, out=hidden[at] if keeps else hidden[: at.stop - at.start]).relu_()
        affine(own, of.second, of.second_bias, out=queries[at]).tanh_()
    places = (scores + mask[:, None]).max(dim=0).indices                       # [C]
    attention = torch.addmm(mask, queries[places], queries.T, alpha=scale).softmax(dim=1)
    return Attended(scores, places, attention, attention @ x), queries, hidden


class _InBlocks(torch.autograd.Function):
    """`attended_in_blocks`. Its backward needs the queries and what their ReLU made."""

    @staticmethod
    def forward(*inputs: Any) -> tuple[Tensor, ...]:  # torch looks at each named argument at every call
        mask, score, score_bias, scale, x, *weights = inputs
        found, queries, hidden = _attended(x, mask, score, score_bias, scale, *weights, keeps=True)
        return *found, queries, hidden

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        _, _, _, ctx.scale, *kept = inputs
        scores, places, attention, rows, queries, hidden = output
        ctx.mark_non_differentiable(scores, places, queries, hidden)
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*kept, places, attention, rows, queries, hidden)

    @staticmethod
    @differentiable_once
    def backward(ctx: Any, _: None, __: None, of_attention: Tensor | None, of_rows: Tensor | None, *___: None) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        x, *weights, places, attention, rows, queries, hidden = ctx.saved_tensors
        of_rows = torch.zeros_like(rows) if of_rows is None else of_rows
        of_query = QueryGradients(Query(*weights), x, wants_x=ctx.needs_input_grad[4])
        keys = ctx.scale * queries[places]                                     # [C, Q]
        of_keys = torch.zeros_like(keys)
        mean = (of_rows * rows).sum(dim=1, keepdim=True)                       # [C, 1]  sum_n A_cn dA_cn
        if of_attention is not None:
            mean += (of_attention * attention).sum(dim=1, keepdim=True)
        for at in blocks_of(len(x), width=queries.shape[1]):
            of_share = of_rows @ x[at].T                                       # [C, B]
            if of_attention is not None:
                of_share += of_attention[:, at]
            of_likeness = of_share.sub_(mean).mul_(attention[:, at])
            of_keys.addmm_(of_likeness, queries[at])
            of_x = of_query.add(x[at], queries[at], hidden[at], of_likeness.T @ keys, is_first=at.start == 0)
            if of_query.of_x is not None:
                of_query.of_x[at] = of_x.addmm_(attention[:, at].T, of_rows)
        # the critical patches' queries were used twice
        of_x = of_query.add(x[places], queries[places], hidden[places], ctx.scale * of_keys)
        if of_query.of_x is not None:
            of_query.of_x.index_add_(0, places, of_x)
        return None, None, None, None, of_query.of_x, *of_query.of_weights


class QueryGradients:
    """Backward of queries, block by block.

    Attributes
    ----------
    of_x : memory for the patches' gradient [N, K], or None where it is not wanted.
    of_weights : gradients of the weights, complete after the last block.
    """

    def __init__(self, weights: Query, x: Tensor, *, wants_x: bool) -> None:
        self.weights = weights
        self.of_x = torch.empty_like(x) if wants_x else None
        self.of_weights = Query(*map(torch.zeros_like, weights))

    def add(self, x: Tensor, queries: Tensor, hidden: Tensor, of_queries: Tensor, *, is_first: bool = False) -> Tensor:
        """Take in the gradient [B, Q] of queries; the patches' gradient [B, K], empty where it is not wanted."""
        of, weights = self.of_weights, self.weights
        of_second = torch.ops.aten.tanh_backward(of_queries, queries)
        add_outer(of.second, of_second, hidden, is_first=is_first)
        of.second_bias.add_(of_second.sum(dim=0))
        of_first = torch.ops.aten.threshold_backward(times(of_second, weights.second), hidden, 0)
        add_outer(of.first, of_first, x, is_first=is_first)
        of.first_bias.add_(of_first.sum(dim=0))
        return times(of_first, weights.first) if self.of_x is not None else x.new_empty(0)
