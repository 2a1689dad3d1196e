"""Pooling by gated attention, block by block: scores, their softmax-weighted sum of rows, and the gradients of both.

s_n = w . (tanh(V h_n) * sigmoid(U h_n)) with dropout on the product;  M = sum_n softmax_n(s) h_n
(Ilse et al., ICML 2018, eq. 9 and 7)
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from milbench_baselines.layers.products import add_outer, add_times, affine


def weighted_sum(weights: Tensor, rows: Tensor) -> Tensor:
    """Sum [H] of rows [N, H], each times its weight of `weights` [N].

    It is written as a batched product, as in `of_all`. For N H < 400, torch adds up the gradient of `weights @ rows` in
    another order, so its last digits would differ between the two.
    """
    return (weights[None, None] @ rows[None]).squeeze(1).squeeze(0)


class Weights(NamedTuple):
    """Weights of a gated attention: branches [A, H] and [A], score [1, A] and [1]."""

    tanh: Tensor
    tanh_bias: Tensor
    sigmoid: Tensor
    sigmoid_bias: Tensor
    score: Tensor
    score_bias: Tensor


class RunningPool:
    """Softmax-weighted sum of rows that come in blocks; scores are compared with the highest one so far."""

    def __init__(self, width: int, like: Tensor) -> None:
        self.total = like.new_zeros(width)
        self.weight = like.new_zeros(())
        self.highest = like.new_full((), -torch.inf)

    def add(self, scores: Tensor, rows: Tensor) -> None:
        """Take rows [B, H] with their scores [B] in."""
        highest = torch.maximum(self.highest, scores.max())
        shrink = (self.highest - highest).exp_()
        weights = (scores - highest).exp_()
        self.total.mul_(shrink).addmv_(rows.T, weights)
        self.weight.mul_(shrink).add_(weights.sum())
        self.highest = highest

    def pooled(self) -> Tensor:
        """Sum [H] of all rows with weights that sum to 1."""
        return self.total / self.weight


def score_block(rows: Tensor, weights: Weights, mask: Tensor | None, tanh: Tensor, gate: Tensor) -> Tensor:
    """Scores [B] of rows [B, H]. `tanh` and `gate` [B, A] are filled by `branches_of`, for the backward."""
    branches_of(rows, weights, mask, tanh, gate)
    return torch.addmv(weights.score_bias, tanh * gate, weights.score[0])


def branches_of(rows: Tensor, weights: Weights, mask: Tensor | None, tanh: Tensor, gate: Tensor) -> None:
    """Put tanh(V h) and sigmoid(U h) times the mask into `tanh` and `gate` [B, A], of rows [B, H]."""
    affine(rows, weights.tanh, weights.tanh_bias, out=tanh).tanh_()
    affine(rows, weights.sigmoid, weights.sigmoid_bias, out=gate).sigmoid_()
    if mask is not None:
        gate.mul_(mask)


class PoolGradients:
    """Backward of scores and pooled feature, block by block.

    Parameters
    ----------
    weights : of the attention.
    factor : of its dropout, `Dropout.factor`.
    slide, scores : what the forward returned, [H] and [N].
    of_slide, of_scores : their gradients; None = zero.

    Attributes
    ----------
    of_weights : gradients of `weights`, complete after the last block. The first starts at patch 0.
    """

    def __init__(
        self,
        weights: Weights,
        factor: float,
        slide: Tensor,
        scores: Tensor,
        of_slide: Tensor | None,
        of_scores: Tensor | None,
    ) -> None:
        self.weights, self.factor = weights, factor
        self.of_slide = torch.zeros_like(slide) if of_slide is None else of_slide
        self.of_scores = torch.zeros_like(scores) if of_scores is None else of_scores
        self.of_weights = Weights(*map(torch.zeros_like, weights))
        self.attention = scores.softmax(dim=0)
        self.from_slide = self.of_slide @ slide

    def of_rows(self, at: slice, rows: Tensor, tanh: Tensor, gate: Tensor) -> Tensor:
        """Gradient [B, H] of the rows [B, H] at places `at` of the bag, with what `branches_of` makes of them."""
        of, attention = self.of_weights, self.attention[at]
        of_score = torch.addcmul(self.of_scores[at], rows @ self.of_slide - self.from_slide, attention)  # [B]
        product = tanh * gate                                                                            # [B, A]
        of.score[0].addmv_(product.T, of_score)
        of.score_bias.add_(of_score.sum())
        of_gate = product.mul_(of_score[:, None]).mul_(self.weights.score)
        # by sigmoid' = sigmoid (1 - sigmoid), where sigmoid = gate / factor, and 0 where the mask is
        of_gate.addcmul_(of_gate, gate, value=-1 / self.factor)
        of_tanh = (gate * of_score[:, None]).mul_(self.weights.score)
        torch.ops.aten.tanh_backward.grad_input(of_tanh, tanh, grad_input=of_tanh)
        add_outer(of.tanh, of_tanh, rows, is_first=at.start == 0)
        of.tanh_bias.add_(of_tanh.sum(dim=0))
        add_outer(of.sigmoid, of_gate, rows, is_first=at.start == 0)
        of.sigmoid_bias.add_(of_gate.sum(dim=0))
        of_rows = attention[:, None] * self.of_slide
        add_times(of_rows, of_tanh, self.weights.tanh)
        return add_times(of_rows, of_gate, self.weights.sigmoid)
