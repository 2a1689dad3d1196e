"""Pooling by gated attention, block by block: scores, their softmax-weighted sum of rows, and the gradients of both.

s_n = w . (tanh(V h_n) * sigmoid(U h_n)) with dropout on the product;  M = sum_n softmax_n(s) h_n
(Ilse et al., ICML 2018, eq. 9 and 7)
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from milbench_baselines.layers.products import add_outer_of_each, add_times, affine_of_each, sum_of_rows


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


def gates_of(block: Tensor) -> Tensor:
    """Gates [2, B, A] in the `block` [B, 2 A] of `Branches.memory`, without a gap, as MKL wants them."""
    n, width = block.shape
    return block.view(2, n, width // 2)


class Branches:
    """Both branches of a gated attention, as one product of a block of rows.

    Parameters
    ----------
    weights : of the attention.
    """

    def __init__(self, weights: Weights) -> None:
        self.weight = torch.stack((weights.tanh, weights.sigmoid))           # [2, A, H]
        self.bias = torch.stack((weights.tanh_bias, weights.sigmoid_bias))   # [2, A]
        self.score, self.score_bias = weights.score[0], weights.score_bias

    def memory(self, n: int) -> Tensor:
        """Memory for the gates of `n` rows. Those of a block of rows lie together: see `gates_of`."""
        return self.weight.new_empty(n, 2 * self.weight.shape[1])

    def fill(self, gates: Tensor, rows: Tensor, mask: Tensor | None) -> None:
        """Put tanh(V h) and sigmoid(U h) times the mask into `gates` [2, B, A], of rows [B, H]."""
        tanh, gate = affine_of_each(rows, self.weight, self.bias, out=gates)
        tanh.tanh_()
        gate.sigmoid_()
        if mask is not None:
            gate.mul_(mask)

    def scores(self, gates: Tensor, rows: Tensor, mask: Tensor | None) -> Tensor:
        """Scores [B] of rows [B, H]. `gates` is filled, for the backward."""
        self.fill(gates, rows, mask)
        return torch.addmv(self.score_bias, gates[0] * gates[1], self.score)


class PoolGradients:
    """Backward of scores and pooled feature, block by block.

    Parameters
    ----------
    weights : of the attention.
    factor : of its dropout, `Dropout.factor`.
    slide, scores : what the forward returned, [H] and [N].
    of_slide, of_scores : their gradients; None = zero.
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
        self.of_branches = weights.tanh.new_empty(2, *weights.tanh.shape)
        self.of_biases, self.of_score = weights.tanh.new_zeros(2, len(weights.tanh)), torch.zeros_like(weights.score)
        self.of_score_bias = torch.zeros_like(weights.score_bias)
        self.attention = scores.softmax(dim=0)
        self.from_slide = self.of_slide @ slide

    @property
    def of_weights(self) -> Weights:
        """Gradients of the attention's weights, complete after the last block. The first starts at patch 0."""
        (tanh, sigmoid), (tanh_bias, sigmoid_bias) = self.of_branches, self.of_biases
        return Weights(tanh, tanh_bias, sigmoid, sigmoid_bias, self.of_score, self.of_score_bias)

    def of_rows(self, at: slice, rows: Tensor, gates: Tensor) -> Tensor:
        """Gradient [B, H] of the rows [B, H] at places `at` of the bag, with the `gates` [2, B, A] that `Branches` filled."""
        attention, (tanh, gate) = self.attention[at], gates
        of_score = torch.addcmul(self.of_scores[at], rows @ self.of_slide - self.from_slide, attention)  # [B]
        of_both = torch.empty_like(gates)                                                                # [2, B, A]
        of_tanh, of_gate = of_both
        torch.mul(tanh, gate, out=of_gate)
        self.of_score[0].addmv_(of_gate.T, of_score)
        self.of_score_bias.add_(of_score.sum())
        of_gate.mul_(of_score[:, None]).mul_(self.weights.score)
        # by sigmoid' = sigmoid (1 - sigmoid), where sigmoid = gate / factor, and 0 where the mask is
        of_gate.addcmul_(of_gate, gate, value=-1 / self.factor)
        torch.mul(gate, of_score[:, None], out=of_tanh).mul_(self.weights.score)
        torch.ops.aten.tanh_backward.grad_input(of_tanh, tanh, grad_input=of_tanh)
        add_outer_of_each(self.of_branches, of_both, rows, is_first=at.start == 0)
        for total, own in zip(self.of_biases, of_both, strict=True):
            total.add_(sum_of_rows(own))
        of_rows = attention[:, None] * self.of_slide
        add_times(of_rows, of_tanh, self.weights.tanh)
        return add_times(of_rows, of_gate, self.weights.sigmoid)
