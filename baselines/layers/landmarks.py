"""Landmarks of Nyström mixing: how tokens divide into them, their projections, their matrix A2, and its gradients.

Shapes: G bags (of all stacked models), S models, n tokens, H = h d channels of h heads, m landmarks, g groups of landmarks.

The tokens stand behind P rows of zeros, so that P + n is a multiple of m. Nothing is computed for the zeros. Landmarks
that are means of zeros alone are all alike. They are one group of z landmarks, the first, whose share in every softmax is z
exponentials. With the counts D (z, 1, 1, ...) and A2' the shares of the groups [g, g], A = D^1/2 A2' D^-1/2 acts on the
groups as the full matrix does, and its pseudo-inverse is that of the full matrix.
"""

from __future__ import annotations

from math import log
from typing import NamedTuple

import torch
from torch import Tensor

from milbench_baselines.layers.products import baddbmm, bmm, by_transposed, outer

ENTRIES = 2**20
"""Numbers of a block of tokens x landmarks: 4 MB in float32, about a processor core's own cache."""

ENTRIES_ON_A_GPU = 2**26
"""The same on a GPU, where small blocks would leave it idle."""


class Plan(NamedTuple):
    """Sizes and options.

    Attributes
    ----------
    heads, landmarks, iterations : h, m, and steps of the pseudo-inverse.
    first_only : mix the first token only, and tell its attention.
    zeros_ahead : number of tokens in front that are zeros. P = 0 then: they are in place of those that nothing is computed for.
    """

    heads: int
    landmarks: int
    iterations: int
    first_only: bool
    zeros_ahead: int = 0


class Sizes:
    """How tokens, zeros and landmarks divide, and blocks of tokens."""

    def __init__(self, plan: Plan, tokens: Tensor, weight: Tensor) -> None:
        self.plan, self.lead = plan, tokens.shape[:-2]
        self.n, self.width = tokens.shape[-2:]
        self.heads, self.n_sets = plan.heads, weight.shape[:-2].numel()
        self.depth = self.width // self.heads
        self.scale = self.depth**-0.5
        self.zeros = -self.n % plan.landmarks
        self.rows_of_one = (self.n + self.zeros) // plan.landmarks
        self.n_alike = (self.zeros + plan.zeros_ahead) // self.rows_of_one
        self.skipped = plan.zeros_ahead // self.rows_of_one * self.rows_of_one
        self.groups = plan.landmarks - self.n_alike + (self.n_alike > 0)
        self.inverts = self.groups <= self.depth  # so few that the inverse itself is the narrowest product
        self.wide = torch.promote_types(tokens.dtype, torch.float32)
        entries = ENTRIES_ON_A_GPU if tokens.is_cuda else ENTRIES
        self.block = max(32, entries // (self.lead.numel() * self.heads * self.groups))

    def blocks(self) -> list[slice]:
        return [slice(start, min(start + self.block, self.n)) for start in range(0, self.n, self.block)]

    def means(self, tokens: Tensor) -> Tensor:
        """Means [G, g, H] of the rows of each landmark, from tokens [G, n, H]."""
        first = self._of_partial                                            # tokens of a landmark that begins with zeros
        tokens = tokens[:, self.skipped :]
        whole = torch.unflatten(tokens[:, first:], 1, (-1, self.rows_of_one)).sum(dim=2, dtype=self.wide)
        parts = [tokens[:, :first].sum(dim=1, keepdim=True, dtype=self.wide)] if first else []
        alike = [whole.new_zeros(len(tokens), 1, self.width)] if self.n_alike else []
        return torch.cat([*alike, *parts, whole], dim=1).mul_(1 / self.rows_of_one)

    def add_of_means(self, of_tokens: Tensor, of_means: Tensor) -> None:
        """Add the gradient of the means [G, g, H] to that of the tokens [G, n, H]."""
        first, share = self._of_partial, (of_means / self.rows_of_one).to(of_tokens.dtype)
        of_tokens = of_tokens[:, self.skipped :]
        n_whole = (of_tokens.shape[1] - first) // self.rows_of_one
        torch.unflatten(of_tokens[:, first:], 1, (-1, self.rows_of_one)).add_(share[:, -n_whole:, None])
        if first:
            of_tokens[:, :first] += share[:, -n_whole - 1, None]

    @property
    def _of_partial(self) -> int:
        return -self.zeros % self.rows_of_one

    def by_head(self, rows: Tensor) -> Tensor:
        """Rows [G h, r, d] of `rows` [G, r, H]; a view for one bag or one head."""
        return torch.unflatten(rows, -1, (self.heads, -1)).transpose(1, 2).flatten(0, 1)

    def apart(self, rows: Tensor) -> Tensor:
        """Rows [G, r, h, d] of `rows` [G, r, H], a view."""
        return torch.unflatten(rows, -1, (self.heads, -1))

    def joined(self, rows: Tensor) -> Tensor:
        """Rows [G, r, H] of `rows` [G h, r, d]."""
        return torch.unflatten(rows, 0, (-1, self.heads)).transpose(1, 2).flatten(2)

    def write(self, into: Tensor, left: Tensor, right: Tensor) -> None:
        """Write the product [G h, r, d] of two matrices into rows [G, r, H]."""
        if self.heads == 1 and into.is_contiguous() and into.dtype == self.wide:
            bmm(left, right, out=into)
        else:
            by_head = torch.unflatten(into, -1, (self.heads, -1)).transpose(1, 2)
            by_head.copy_(torch.unflatten(bmm(left, right), 0, (-1, self.heads)))

    def of_heads(self, weight: Tensor) -> Tensor:
        """Weights [S h, d, H] of each head, of `weight` [S, H, H]."""
        return weight.reshape(-1, self.depth, self.width)

    def near(self, kernels: Tensor) -> int:
        """Number of tokens that the convolution's first row reads."""
        return min(self.n, kernels.shape[-1] // 2 + 1)

    def with_count(self, logits: Tensor, dim: int = -1) -> Tensor:
        """Logits, changed in place, where the first group along `dim` counts as often as it has landmarks."""
        if self.n_alike > 1:
            logits.select(dim, 0).add_(log(self.n_alike))
        return logits

    def scaled(self, matrix: Tensor, dim: int, power: float) -> Tensor:
        """`matrix` with its first entry along `dim` times z^power, in place."""
        if self.n_alike > 1:
            matrix.select(dim, 0).mul_(self.n_alike**power)
        return matrix


class Landmarks(NamedTuple):
    """Landmarks of all bags. A stands for their matrix between square roots of counts, theta for 1 / (largest column sum).

    Attributes
    ----------
    means : [G, g, H] of tokens.
    query, key : [G h, g, d]; the query is divided by sqrt d.
    shares : A2' [G h, g, g].
    a : [G h, g, g].
    theta : [G h, 1, 1].
    largest : [G h, 1, g], where the column sums are largest, divided by how many there are.
    """

    means: Tensor
    query: Tensor
    key: Tensor
    shares: Tensor
    a: Tensor
    theta: Tensor
    largest: Tensor


def landmarks(sizes: Sizes, means: Tensor, weight: Tensor) -> Landmarks:
    """Landmarks from the `means` [G, g, H] of their tokens and the projections `weight` [S, 3 H, H]."""
    both = linear_of_sets(means, weight[:, : 2 * sizes.width].to(sizes.wide))                    # [G, g, 2 H]
    query, key = (sizes.by_head(part) for part in both.chunk(2, dim=-1))
    query = query * sizes.scale
    return Landmarks(means, query, key, *landmark_matrix(sizes, bmm(query, key.mT)))


def landmark_matrix(sizes: Sizes, logits: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Shares A2', A, theta and `largest` of `Landmarks`, from the logits [G h, g, g], which it may change."""
    shares = sizes.with_count(logits).softmax(dim=-1)                               # (1)
    sums = sizes.scaled(shares.clone(), 1, 1.0).sum(dim=1, keepdim=True)                  # [G h, 1, g]
    sums = torch.unflatten(sizes.scaled(sums, 2, -1.0), 0, (-1, sizes.heads))
    top = sums.amax(dim=(1, 2, 3), keepdim=True)
    is_top = (sums == top).to(sums.dtype)
    largest = (is_top / is_top.sum(dim=(1, 2, 3), keepdim=True)).flatten(0, 1)
    a = sizes.scaled(sizes.scaled(shares.clone(), 1, 0.5), 2, -0.5)
    return shares, a, top.reciprocal().expand_as(sums[..., :1]).flatten(0, 1), largest


def landmark_matrix_backward(
    sizes: Sizes, shares: Tensor, theta: Tensor, largest: Tensor, of_a: Tensor, of_log_theta: Tensor
) -> Tensor:
    """Gradient of the logits [G h, g, g], from those of A [G h, g, g] and of log theta [G h]."""
    of_theta = torch.unflatten(of_log_theta, 0, (-1, sizes.heads)).sum(dim=1, keepdim=True)      # the heads share theta
    of_top = -of_theta.expand(-1, sizes.heads).flatten()[:, None, None] * theta
    of_shares = sizes.scaled(sizes.scaled(of_a, 1, 0.5), 2, -0.5)
    of_sums = sizes.scaled(largest * of_top, 2, -1.0).expand_as(of_shares)
    of_shares = of_shares + sizes.scaled(of_sums.clone(), 1, 1.0)
    return torch._softmax_backward_data(of_shares, shares, -1, shares.dtype)


def landmarks_backward(
    sizes: Sizes, marks: Landmarks, weight: Tensor, of_inverted: tuple[Tensor, Tensor], of_query: Tensor, of_key: Tensor
) -> tuple[Tensor, Tensor]:
    """Gradients of means [G, g, H] and of the weight's first two thirds [S, 2 H, H].

    Parameters
    ----------
    of_inverted : gradients of A [G h, g, g] and of log theta [G h].
    of_query, of_key : [G h, g, d], without what goes through A.
    """
    of_logits = landmark_matrix_backward(sizes, marks.shares, marks.theta, marks.largest, *of_inverted)
    of_query = baddbmm(of_query, of_logits, marks.key).mul_(sizes.scale)
    of_key = baddbmm(of_key, of_logits.mT, marks.query)
    of_both = torch.cat([sizes.joined(of_query), sizes.joined(of_key)], dim=-1)           # [G, g, 2 H]
    projections = weight[:, : 2 * sizes.width].to(sizes.wide)
    return linear_of_sets(of_both, projections.mT), of_weight(of_both, marks.means, sizes.n_sets)


def linear_of_sets(rows: Tensor, weight: Tensor) -> Tensor:
    """Outputs [G, r, O] of `rows` [G, r, I] by weights [S, O, I], in one product per model, in the dtype of the rows.

    `milbench.training.precision` returns thin products in float32, in the forward alone.
    """
    together = rows.reshape(len(weight), -1, rows.shape[-1])
    out = by_transposed(together[0], weight[0]) if len(weight) == 1 else bmm(together, weight.mT)
    return out.view(len(rows), rows.shape[1], -1).to(rows.dtype)


def of_weight(of_out: Tensor, rows: Tensor, n_sets: int) -> Tensor:
    """Gradient [S, O, I] of the weights of `_linear`."""
    of_out, rows = (each.reshape(n_sets, -1, each.shape[-1]) for each in (of_out, rows))
    return outer(of_out[0], rows[0])[None] if n_sets == 1 else bmm(of_out.mT, rows)
