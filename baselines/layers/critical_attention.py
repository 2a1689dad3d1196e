"""Attention by likeness to a critical patch, block by block: DSMIL's two streams and its head, for a large bag.

s_n = W x_n + w;  i_c = argmax_n s_nc;  q_n = tanh(W2 ReLU(W1 x_n + b1) + b2)
A_cn = softmax_n q_n . q_{i_c} / sqrt(width);  logit_o = sum_c h_oc . R_c + d_o, with R_c = sum_n A_cn x_n
(Li et al., CVPR 2021, eq. 2 to 6, with the official nonlinear query)

Operation by operation, a step would read the bag five times: for scores, queries, R, and in the backward for the gradients of
A and of W1. Here it reads the bag twice. As h_oc . R_c = sum_n A_cn (h_oc . x_n), the forward multiplies a block of patches with
W1, and while it lies in the cache with W and h side by side. The backward needs R for the gradient of h, and multiplies gradients
of W1's rows and A with the patches side by side.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from milbench_baselines.layers.products import add_outer, affine, sum_of_rows, tanh_of_affine, times, times_few
from milbench_baselines.layers.row_blocks import differentiable_once

MOST_CLASSES = 4
"""Logits up to which products with the head's C^2 rows cost less than reading the patches once more for R."""


ROWS = 4096
"""Most patches of a block. What is made of them has the query's few columns, and still lies in the cache when it is used again."""


class Weights(NamedTuple):
    """Weights of the query, [Q, K], [Q], [Q, Q] and [Q], and of the head, [C^2, K]; of more than `MOST_CLASSES`, [0, K]."""

    first: Tensor
    first_bias: Tensor
    second: Tensor
    second_bias: Tensor
    head: Tensor


class Attended(NamedTuple):
    """Scores [N, C], places [C] of the critical patches, attention [C, N] and logits [C]. The first two have no gradient."""

    scores: Tensor
    places: Tensor
    attention: Tensor
    logits: Tensor


def attended_in_blocks(
    x: Tensor, mask: Tensor, score: nn.Linear, query: nn.Sequential, head: nn.Conv1d, scale: float
) -> Attended:
    """Both streams of patches `x` [N, K], float32 or float64.

    Parameters
    ----------
    mask : [N], 0, or -inf at patches that are left out.
    score : K -> C; no gradient of it is taken here.
    query : Linear, ReLU, Linear, tanh.
    head : C -> C, as wide as a patch.
    scale : of the likeness, 1 / sqrt(width).
    """
    first, second, c = query[0], query[2], len(score.weight)
    rows_of_head = head.weight.reshape(c * c, -1)[: c * c if c <= MOST_CLASSES else 0]
    fixed = (mask, score.weight.detach(), score.bias.detach(), scale)
    weights = (first.weight, first.bias, second.weight, second.bias, rows_of_head)
    run = _InBlocks.apply if torch.is_grad_enabled() else _looked_at
    scores, places, attention, sums, *_ = run(*fixed, x, *weights)  # type: ignore[no-untyped-call]
    if c > MOST_CLASSES:
        return Attended(scores.T, places, attention, head(sums[None])[0, :, 0])
    of_own = sums.reshape(c, c, c).diagonal(dim1=0, dim2=2)                    # [C, C]    h_oc . R_c
    return Attended(scores.T, places, attention, of_own.sum(dim=1) + head.bias)  # type: ignore[operator]  # it has one


def _looked_at(*inputs: Any) -> tuple[Tensor, ...]:
    return _attended(*inputs, keeps=False)


def _attended(
    mask: Tensor, score: Tensor, score_bias: Tensor, scale: float, x: Tensor, *weights: Tensor, keeps: bool
) -> tuple[Tensor, ...]:
    """Scores [C, N], places [C], attention [C, N], sums over the patches, the head's products [M, N], queries and their hidden rows.

    The sums are those of the head's products, [C, M], or R itself, [C, K], if there are none. Queries and what their ReLU made
    are [N, Q]; without `keeps` the latter is that of one block.
    """
    of, n, c = Weights(*weights), x.shape[0], score.shape[0]
    queries, hidden = x.new_empty(n, of.second.shape[0]), x.new_empty(n if keeps else min(n, ROWS), of.first.shape[0])
    others, narrow = x.new_empty(c + of.head.shape[0], n), torch.cat((score, of.head))  # [C + M, N], [C + M, K]
    for start in range(0, n, ROWS):
        at = slice(start, start + ROWS)
        rows = x[at]
        own = hidden[at] if keeps else hidden[: rows.shape[0]]
        affine(rows, of.first, of.first_bias, out=own).relu_()
        tanh_of_affine(own, of.second, of.second_bias, out=queries[at])
        times_few(narrow, rows, out=others[:, at])
    scores, products = others[:c].add_(score_bias[:, None]), others[c:]
    places = (scores + mask).max(dim=1).indices                                # [C]
    attention = torch.addmm(mask, queries[places], queries.T, alpha=scale).softmax(dim=1)
    sums = attention @ (products.T if len(products) else x)
    return scores, places, attention, sums, products, queries, hidden


class _InBlocks(torch.autograd.Function):
    """What `_attended` makes. Its backward needs the queries, what their ReLU made, and the head's products."""

    @staticmethod
    def forward(*inputs: Any) -> tuple[Tensor, ...]:  # torch looks at each named argument at every call
        return _attended(*inputs, keeps=True)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        _, _, _, ctx.scale, *given = inputs
        scores, places, attention, sums, *kept = output
        ctx.mark_non_differentiable(scores, places, *kept)
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*given, places, attention, sums, *kept)

    @staticmethod
    @differentiable_once
    def backward(ctx: Any, _: None, __: None, of_attention: Tensor | None, of_sums: Tensor | None, *___: None) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        x, *given, places, attention, sums, products, queries, hidden = ctx.saved_tensors
        weights, q = Weights(*given), hidden.shape[1]
        of_sums = torch.zeros_like(sums) if of_sums is None else of_sums
        of_rows = of_sums @ weights.head if len(products) else of_sums         # [C, K]  of R
        of_query = QueryGradients(weights)
        of_x = torch.empty_like(x) if ctx.needs_input_grad[4] else None
        mean = (of_sums * sums).sum(dim=1, keepdim=True)                       # [C, 1]  sum_n A_cn dA_cn
        of_likeness = of_sums @ (products if len(products) else x.T)           # [C, N]  of A, first
        if of_attention is not None:
            mean += (of_attention * attention).sum(dim=1, keepdim=True)
            of_likeness += of_attention
        of_likeness.sub_(mean).mul_(attention)
        keys = ctx.scale * queries[places]                                     # [C, Q]
        of_keys = of_likeness @ queries                                        # [C, Q]
        needed = attention if len(products) else attention[:0]
        total = x.new_empty(q + len(needed), x.shape[1])                       # gradient of W1, and R
        left = x.new_empty(min(ROWS, x.shape[0]), -(-len(total) // 16) * 16)[:, : len(total)]  # its rows start where a line does
        for start in range(0, x.shape[0], ROWS):
            at = slice(start, start + ROWS)
            rows = x[at]
            both = left[: rows.shape[0]]
            of_first = of_query.add(queries[at], hidden[at], of_likeness[:, at].T @ keys, out=both[:, :q])
            both[:, q:] = needed[:, at].T
            add_outer(total, both, rows, is_first=start == 0)
            if of_x is not None:
                times(of_first, weights.first, out=of_x[at]).addmm_(attention[:, at].T, of_rows)
        # the critical patches' queries were used twice
        of_first = of_query.add(queries[places], hidden[places], ctx.scale * of_keys)
        total[:q].addmm_(of_first.T, x[places])
        if of_x is not None:
            of_x.index_add_(0, places, of_first @ weights.first)
        of_head = of_sums.T @ total[q:] if len(products) else torch.zeros_like(weights.head)
        return None, None, None, None, of_x, total[:q], *of_query.of_others, of_head


class QueryGradients:
    """Backward of queries up to what their first layer made, block by block.

    Attributes
    ----------
    of_others : gradients of the weights but the first layer's matrix, complete after the last block.
    """

    def __init__(self, weights: Weights) -> None:
        self.second = weights.second
        self.of_others = tuple(map(torch.zeros_like, (weights.first_bias, weights.second, weights.second_bias)))

    def add(self, queries: Tensor, hidden: Tensor, of_queries: Tensor, *, out: Tensor | None = None) -> Tensor:
        """Gradient [B, Q] of what the first layer made, before its ReLU, of those of queries [B, Q]; takes in the weights' own."""
        of_first_bias, of_second, of_second_bias = self.of_others
        own = torch.ops.aten.tanh_backward.grad_input(of_queries, queries, grad_input=of_queries)
        add_outer(of_second, own, hidden)
        of_second_bias.add_(sum_of_rows(own))
        of_hidden = times(own, self.second, out=out)
        torch.ops.aten.threshold_backward.grad_input(of_hidden, hidden, 0, grad_input=of_hidden)
        of_first_bias.add_(sum_of_rows(of_hidden))
        return of_hidden
