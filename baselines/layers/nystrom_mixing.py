"""Nyström mixing of a bag's tokens in blocks of rows: what `NystromAttention` does between its two linear layers.

No matrix of tokens x landmarks is kept. Each block of tokens is multiplied with the landmarks, goes through its softmax and
is used while it lies in the cache; the backward computes it again. A softmax over the tokens merges exactly from block
to block with a running maximum.

Shapes: G bags (of all stacked models), S models, n tokens, H = h d channels of h heads, m landmarks, g groups of landmarks.

The tokens stand behind P rows of zeros, so that P + n is a multiple of m. Nothing is computed for the zeros. Landmarks
that are means of zeros alone are all alike. They are one group of z landmarks, the first, whose share in every softmax is z
exponentials. With the counts D (z, 1, 1, ...) and A2' the shares of the groups [g, g], A = D^1/2 A2' D^-1/2 is symmetric
where the full matrix is, and its pseudo-inverse is that of the full matrix.
"""

from __future__ import annotations

from math import log
from typing import Any, NamedTuple

import torch
from torch import Tensor

from milbench_baselines.layers import sequence_blocks
from milbench_baselines.layers.precision import as_in_products, without_autocast
from milbench_baselines.layers.pseudo_inverse_product import (
    Steps,
    whole_steps,
    whole_steps_backward,
    with_columns,
    with_columns_backward,
)

ENTRIES = 2**20
"""Numbers of a block of tokens x landmarks: 4 MB in float32, about a processor core's own cache."""

ENTRIES_ON_A_GPU = 2**26
"""The same on a GPU, where small blocks would leave it idle."""


NARROW = 32
"""Most landmarks whose softmax goes along columns: along rows, torch spends its time on starting them."""


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


def mixed(tokens: Tensor, weight: Tensor, kernels: Tensor | None, plan: Plan) -> tuple[Tensor, Tensor]:
    """Mixed tokens [n, H], or [1, H] and the first token's attention [h, n] if the plan says so; else that is [h, 0].

    Parameters
    ----------
    tokens : [n, H].
    weight : [3 H, H], the projections to queries, keys and values.
    kernels : [h, s] of the values' convolution along the tokens, or None.
    """
    kernels = weight.new_zeros(plan.heads, 1) if kernels is None else kernels
    given = (as_in_products(each) for each in (tokens, weight, kernels))
    out = _Mixed.apply(*given, plan)  # type: ignore[no-untyped-call]
    return out[0], out[1]


# ---- landmarks -----------------------------------------------------------------------------------


class _Sizes:
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
        if self.heads == 1 and into.is_contiguous():
            torch.bmm(left, right, out=into)
        else:
            by_head = torch.unflatten(into, -1, (self.heads, -1)).transpose(1, 2)
            by_head.copy_(torch.unflatten(torch.bmm(left, right), 0, (-1, self.heads)))

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


class _Landmarks(NamedTuple):
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


def _landmarks(sizes: _Sizes, means: Tensor, weight: Tensor) -> _Landmarks:
    both = _linear(means, weight[:, : 2 * sizes.width].to(sizes.wide))                    # [G, g, 2 H]
    query, key = (sizes.by_head(part) for part in both.chunk(2, dim=-1))
    query = query * sizes.scale
    shares = sizes.with_count(torch.bmm(query, key.mT)).softmax(dim=-1)                   # (1)
    sums = sizes.scaled(shares.clone(), 1, 1.0).sum(dim=1, keepdim=True)                  # [G h, 1, g]
    sums = torch.unflatten(sizes.scaled(sums, 2, -1.0), 0, (-1, sizes.heads))
    top = sums.amax(dim=(1, 2, 3), keepdim=True)
    is_top = (sums == top).to(sums.dtype)
    largest = (is_top / is_top.sum(dim=(1, 2, 3), keepdim=True)).flatten(0, 1)
    a = sizes.scaled(sizes.scaled(shares.clone(), 1, 0.5), 2, -0.5)
    return _Landmarks(means, query, key, shares, a, top.reciprocal().expand_as(sums[..., :1]).flatten(0, 1), largest)


def _landmarks_backward(
    sizes: _Sizes, marks: _Landmarks, weight: Tensor, of_inverted: tuple[Tensor, Tensor], of_query: Tensor, of_key: Tensor
) -> tuple[Tensor, Tensor]:
    """Gradients of means [G, g, H] and of the weight's first two thirds [S, 2 H, H].

    Parameters
    ----------
    of_inverted : gradients of A [G h, g, g] and of log theta [G h].
    of_query, of_key : [G h, g, d], without what goes through A.
    """
    of_a, of_log_theta = of_inverted
    of_theta = torch.unflatten(of_log_theta, 0, (-1, sizes.heads)).sum(dim=1, keepdim=True)      # the heads share theta
    of_top = -of_theta.expand(-1, sizes.heads).flatten()[:, None, None] * marks.theta
    of_shares = sizes.scaled(sizes.scaled(of_a, 1, 0.5), 2, -0.5)
    of_sums = sizes.scaled(marks.largest * of_top, 2, -1.0).expand_as(of_shares)
    of_shares = of_shares + sizes.scaled(of_sums.clone(), 1, 1.0)
    of_logits = torch._softmax_backward_data(of_shares, marks.shares, -1, marks.shares.dtype)
    of_query = torch.baddbmm(of_query, of_logits, marks.key).mul_(sizes.scale)
    of_key = torch.baddbmm(of_key, of_logits.mT, marks.query)
    of_both = torch.cat([sizes.joined(of_query), sizes.joined(of_key)], dim=-1)           # [G, g, 2 H]
    projections = weight[:, : 2 * sizes.width].to(sizes.wide)
    return _linear(of_both, projections.mT), _of_weight(of_both, marks.means, sizes.n_sets)


def _linear(rows: Tensor, weight: Tensor) -> Tensor:
    """Outputs [G, r, O] of `rows` [G, r, I] by weights [S, O, I], in one product a model."""
    if len(weight) == 1:
        return torch.unflatten((rows.reshape(-1, rows.shape[-1]) @ weight[0].mT), 0, (len(rows), -1))
    together = rows.reshape(len(weight), -1, rows.shape[-1])
    return torch.bmm(together, weight.mT).view(len(rows), rows.shape[1], -1)


def _of_weight(of_out: Tensor, rows: Tensor, n_sets: int) -> Tensor:
    """Gradient [S, O, I] of the weights of `_linear`."""
    of_out, rows = (each.reshape(n_sets, -1, each.shape[-1]) for each in (of_out, rows))
    return torch.mm(of_out[0].mT, rows[0])[None] if n_sets == 1 else torch.bmm(of_out.mT, rows)


# ---- all tokens ----------------------------------------------------------------------------------


def _gathered(sizes: _Sizes, query: Tensor, keys: Tensor, values: Tensor | None) -> tuple[Tensor, Tensor]:
    """A3 v [G h, g, d] and the logarithms [G h, g, 1] of its softmax's sums, over blocks of keys and values [G, n, H]."""
    highest = query.new_zeros(*query.shape[:2], 1) if sizes.zeros else query.new_full((*query.shape[:2], 1), -torch.inf)
    total, pooled = torch.full_like(highest, float(sizes.zeros)), torch.zeros_like(query)
    asking = query.to(keys.dtype)
    for rows in sizes.blocks():
        logits = torch.bmm(asking, sizes.by_head(keys[:, rows]).mT).to(sizes.wide)        # [G h, g, r]
        higher = torch.maximum(highest, logits.amax(dim=-1, keepdim=True))
        weights = logits.sub_(higher).exp_()
        shrunk = (highest - higher).exp_()
        total = total.mul_(shrunk).add_(weights.sum(dim=-1, keepdim=True))
        if values is not None:
            added = torch.bmm(weights.to(values.dtype), sizes.by_head(values[:, rows]))
            pooled = pooled.mul_(shrunk).add_(added)
        highest = higher
    return pooled.div_(total), total.log_().add_(highest)


def _shares(sizes: _Sizes, queries: Tensor, keys: Tensor) -> Tensor:
    """Shares A1 [G h, r, g] of the landmarks `keys` [G h, g, d] for `queries` [G h, r, d]."""
    if sizes.groups > NARROW:
        return sizes.with_count(torch.bmm(queries, keys.mT).to(sizes.wide)).softmax(dim=-1)
    return sizes.with_count(torch.bmm(keys, queries.mT).to(sizes.wide), dim=1).softmax(dim=1).mT


def _shares_backward(sizes: _Sizes, shares: Tensor, of_rows: Tensor, solved: Tensor) -> Tensor:
    """Gradient of the logits [G h, r, g], from that of the rows [G h, r, d], which are shares times `solved`."""
    if sizes.groups > NARROW:
        of_shares = torch.bmm(of_rows, solved.mT).to(sizes.wide)
        return torch._softmax_backward_data(of_shares, shares, -1, shares.dtype).to(solved.dtype)
    of_shares = torch.bmm(solved, of_rows.mT).to(sizes.wide)
    return torch._softmax_backward_data(of_shares, shares.mT, 1, shares.dtype).mT.to(solved.dtype)


def _all_forward(sizes: _Sizes, x: Tensor, w: Tensor, kernels: Tensor) -> tuple[Tensor, ...]:
    projected = _linear(x, w)                                                             # [G, n, 3 H]
    queries, keys, values = projected.chunk(3, dim=-1)
    marks = _landmarks(sizes, sizes.means(x), w)
    pooled, sums = _gathered(sizes, marks.query, keys, values)
    whole = whole_steps(marks.a, marks.theta, sizes.plan.iterations)                      # (2)
    counted = sizes.scaled(pooled.clone(), 1, 0.5)
    if sizes.inverts:
        columns = torch.eye(sizes.groups, dtype=sizes.wide, device=x.device).expand_as(marks.a)
        steps = with_columns(whole, marks.a, columns, sizes.plan.iterations)
        solved = torch.bmm(torch.bmm(steps.z, steps.last), counted)
    else:
        steps = with_columns(whole, marks.a, counted, sizes.plan.iterations)
        solved = torch.bmm(steps.z, steps.last)
    solved = sizes.scaled(solved, 1, -0.5).to(x.dtype)                                    # Z A3 v
    asked = (marks.key * sizes.scale).to(x.dtype)
    out = x.new_empty(x.shape)
    for rows in sizes.blocks():
        shares = _shares(sizes, sizes.by_head(queries[:, rows]), asked)
        sizes.write(out[:, rows], shares.to(x.dtype), solved)                             # (3)
    if kernels.shape[-1] > 1:
        sequence_blocks.add_convolved(torch.unflatten(out, -1, (sizes.heads, -1)), torch.unflatten(values, -1, (sizes.heads, -1)), kernels)
    return (out, x.new_empty(len(x), sizes.heads, 0), projected, pooled, sums, solved, *marks, *steps)


def _all_backward(sizes: _Sizes, of_out: Tensor, x: Tensor, w: Tensor, kernels: Tensor, saved: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    projected, pooled, sums, solved = saved[:4]
    marks, steps = _Landmarks(*saved[4:11]), Steps(*saved[11:])
    queries, keys, values = projected.chunk(3, dim=-1)
    asked = (marks.key * sizes.scale).to(x.dtype)
    of_solved, of_asked = torch.zeros_like(pooled), torch.zeros_like(pooled)
    of_queries = torch.empty_like(of_out)
    for rows in sizes.blocks():
        query, of_rows = sizes.by_head(queries[:, rows]), sizes.by_head(of_out[:, rows])
        shares = _shares(sizes, query, asked)
        of_solved += torch.bmm(shares.to(x.dtype).mT, of_rows)
        of_logits = _shares_backward(sizes, shares, of_rows, solved)
        of_asked += torch.bmm(of_logits.mT, query)
        sizes.write(of_queries[:, rows], of_logits, asked)
    of_solved = sizes.scaled(of_solved, 1, -0.5)
    if sizes.inverts:
        of_inverse = torch.bmm(of_solved, sizes.scaled(pooled.clone(), 1, 0.5).mT)
        of_pooled = torch.bmm(torch.bmm(steps.z, steps.last).mT, of_solved)
        of_y, _ = with_columns_backward(steps, torch.bmm(steps.z.mT, of_inverse))
        of_z = torch.bmm(of_inverse, steps.last.mT)
    else:
        of_y, of_pooled = with_columns_backward(steps, torch.bmm(steps.z.mT, of_solved))
        of_z = torch.bmm(of_solved, steps.last.mT)
    of_pooled = sizes.scaled(of_pooled, 1, 0.5)
    shared = (of_pooled * pooled).sum(dim=-1, keepdim=True)
    of_query, of_key = torch.zeros_like(pooled), of_asked.mul_(sizes.scale)
    asking, of_gathered = marks.query.to(x.dtype), of_pooled.to(x.dtype)
    of_values = torch.zeros_like(of_out)
    of_kernels = torch.zeros_like(kernels)
    if kernels.shape[-1] > 1:
        sequence_blocks.add_convolved(sizes.apart(of_values), sizes.apart(of_out), kernels.flip(-1))
        of_kernels = sequence_blocks.of_kernels(sizes.apart(of_out), sizes.apart(values), kernels)
    of_x, of_w = torch.empty_like(x), torch.zeros_like(w, dtype=sizes.wide)
    for rows in sizes.blocks():
        key, value = sizes.by_head(keys[:, rows]), sizes.by_head(values[:, rows])
        weights = torch.bmm(asking, key.mT).to(sizes.wide).sub_(sums).exp_()              # [G h, g, r]
        of_all = x.new_empty(len(x), rows.stop - rows.start, 3 * sizes.width)
        of_own_queries, of_keys, of_own_values = of_all.chunk(3, dim=-1)
        of_own_queries.copy_(of_queries[:, rows])
        sizes.write(of_own_values, weights.to(x.dtype).mT, of_gathered)
        of_own_values += of_values[:, rows]
        of_logits = torch.bmm(of_gathered, value.mT).to(sizes.wide).sub_(shared).mul_(weights).to(x.dtype)
        of_query += torch.bmm(of_logits, key)
        sizes.write(of_keys, of_logits.mT, asking)
        of_x[:, rows] = _linear(of_all, w.mT)
        of_w += _of_weight(of_all, x[:, rows], sizes.n_sets)
    of_means, of_landmarks = _landmarks_backward(
        sizes, marks, w, whole_steps_backward(steps.whole, marks.a, marks.theta, of_z, of_y), of_query, of_key
    )
    sizes.add_of_means(of_x, of_means)
    of_w[:, : 2 * sizes.width] += of_landmarks
    return of_x, of_w.to(w.dtype), of_kernels


# ---- the first token -----------------------------------------------------------------------------


def _first_forward(sizes: _Sizes, x: Tensor, w: Tensor, kernels: Tensor) -> tuple[Tensor, ...]:
    to_query, to_key, to_value = w.chunk(3, dim=1)
    keys = _linear(x, to_key)                                                             # [G, n, H]
    marks = _landmarks(sizes, sizes.means(x), w)
    first = sizes.by_head(_linear(x[:, :1].to(sizes.wide), to_query.to(sizes.wide)))      # [G h, 1, d]
    shares = sizes.with_count(torch.bmm(first, marks.key.mT).mul_(sizes.scale)).softmax(dim=-1)  # [G h, 1, g]
    wanted = sizes.scaled(shares.clone(), 2, -0.5)
    whole = whole_steps(marks.a, marks.theta, sizes.plan.iterations)
    steps = with_columns(whole, marks.a, torch.bmm(whole[-1, 0].mT, wanted.mT), sizes.plan.iterations)  # [G h, g, 1]
    _, sums = _gathered(sizes, marks.query, keys, None)
    weights = sizes.scaled(steps.last.clone(), 1, 0.5)                          # [G h, g, 1]  A1 Z
    attention = x.new_empty(len(x), sizes.heads, sizes.n, dtype=sizes.wide)
    pooled = _near(sizes, kernels) @ x[:, : sizes.near(kernels)].to(sizes.wide)           # [G, h, H]
    for rows in sizes.blocks():
        of_landmarks = _exponentials(sizes, marks.query, keys[:, rows], sums)
        own = torch.unflatten(torch.bmm(weights.mT, of_landmarks), 0, (-1, sizes.heads)).squeeze(2)
        attention[:, :, rows] = own                                                       # A1 Z A3
        pooled += torch.bmm(own, x[:, rows].to(sizes.wide))
    values = torch.bmm(sizes.of_heads(to_value).to(sizes.wide), _sets_last(pooled, sizes))   # [S h, d, B]
    out = _sets_first(values, sizes).flatten(1)[:, None].to(x.dtype)                      # [G, 1, H]
    return (out, attention, keys, sums, first, shares, weights, pooled, *marks, *steps)


def _first_backward(
    sizes: _Sizes, of_out: Tensor, x: Tensor, w: Tensor, kernels: Tensor, saved: tuple[Tensor, ...]
) -> tuple[Tensor, Tensor, Tensor]:
    attention, keys, sums, first, shares, weights, pooled = saved[:7]
    marks, steps = _Landmarks(*saved[7:14]), Steps(*saved[14:])
    to_query, to_key, to_value = w.to(sizes.wide).chunk(3, dim=1)
    of_out = _sets_last(torch.unflatten(of_out.to(sizes.wide), -1, (sizes.heads, -1)).squeeze(1), sizes)  # [S h, d, B]
    of_pooled = _sets_first(torch.bmm(sizes.of_heads(to_value).mT, of_out), sizes)       # [G, h, H]
    of_to_value = torch.bmm(of_out, _sets_last(pooled, sizes).mT).reshape(to_value.shape)
    of_attention = torch.empty_like(attention)
    of_weights = torch.zeros_like(weights)
    only: list[Tensor] = []
    for rows in sizes.blocks():
        of_attention[:, :, rows] = torch.bmm(of_pooled, x[:, rows].to(sizes.wide).mT)
        only = [_exponentials(sizes, marks.query, keys[:, rows], sums)]
        of_weights += torch.bmm(only[0], of_attention[:, :, rows].flatten(0, 1)[..., None])
    of_y, of_start = with_columns_backward(steps, sizes.scaled(of_weights.clone(), 1, 0.5))
    of_z = torch.bmm(sizes.scaled(shares.clone(), 2, -0.5).mT, of_start.mT)
    of_wanted = torch.bmm(steps.z, of_start).mT
    of_shares = sizes.scaled(of_wanted, 2, -0.5)
    of_logits = torch._softmax_backward_data(of_shares, shares, -1, shares.dtype) * sizes.scale
    of_key = torch.bmm(of_logits.mT, first)
    of_query = torch.zeros_like(of_key)
    of_x, of_to_key = torch.empty_like(x), torch.zeros_like(to_key)
    asking = marks.query.to(x.dtype)
    for rows in sizes.blocks():
        of_landmarks = only[0] if len(sizes.blocks()) == 1 else _exponentials(sizes, marks.query, keys[:, rows], sums)
        differing = of_attention[:, :, rows].flatten(0, 1)[:, None] - of_weights
        of_scores = of_landmarks.mul_(differing).mul_(weights).to(x.dtype)                # [G h, g, r]
        of_query += torch.bmm(of_scores, sizes.by_head(keys[:, rows]))
        of_keys = torch.empty_like(keys[:, rows])
        sizes.write(of_keys, of_scores.mT, asking)
        of_rows = _linear(of_keys, w.chunk(3, dim=1)[1].mT)
        of_x[:, rows] = torch.baddbmm(of_rows, attention[:, :, rows].mT.to(x.dtype), of_pooled.to(x.dtype))
        of_to_key += _of_weight(of_keys, x[:, rows], sizes.n_sets)
    near = sizes.near(kernels)
    of_x[:, :near] += (_near(sizes, kernels).mT @ of_pooled).to(x.dtype)
    of_asking = sizes.joined(torch.bmm(of_logits, marks.key))                             # [G, 1, H]
    of_x[:, :1] += _linear(of_asking, to_query.mT).to(x.dtype)
    of_to_query = _of_weight(of_asking, x[:, :1].to(sizes.wide), sizes.n_sets)
    of_means, of_landmarks = _landmarks_backward(
        sizes, marks, w, whole_steps_backward(steps.whole, marks.a, marks.theta, of_z, of_y), of_query, of_key
    )
    sizes.add_of_means(of_x, of_means)
    of_w = torch.cat([of_to_query, of_to_key, of_to_value], dim=1)
    of_w[:, : 2 * sizes.width] += of_landmarks
    of_kernels = torch.zeros_like(kernels)
    middle = kernels.shape[-1] // 2
    of_near = torch.unflatten(of_attention[:, :, :near], 0, (sizes.n_sets, -1)).sum(dim=1)
    if kernels.shape[-1] > 1:
        of_kernels[..., middle : middle + near] = of_near.to(kernels.dtype)
    return of_x, of_w.to(w.dtype), of_kernels


def _exponentials(sizes: _Sizes, query: Tensor, keys: Tensor, sums: Tensor) -> Tensor:
    """Shares A3 [G h, g, r] of some keys [G, r, H], from the logarithms of the softmax's sums."""
    return torch.bmm(query.to(keys.dtype), sizes.by_head(keys).mT).to(sizes.wide).sub_(sums).exp_()


def _near(sizes: _Sizes, kernels: Tensor) -> Tensor:
    """Weights [G, h, s'] of the tokens that the convolution's first row reads."""
    middle = kernels.shape[-1] // 2
    own = kernels[..., middle : middle + sizes.near(kernels)].to(sizes.wide)
    return own[:, None].expand(-1, sizes.lead.numel() // sizes.n_sets, -1, -1).flatten(0, 1)


def _sets_last(rows: Tensor, sizes: _Sizes) -> Tensor:
    """Rows [S h, c, B] of rows [G, h, c]."""
    return torch.unflatten(rows, 0, (sizes.n_sets, -1)).permute(0, 2, 3, 1).flatten(0, 1)


def _sets_first(rows: Tensor, sizes: _Sizes) -> Tensor:
    """Rows [G, h, c] of rows [S h, c, B]."""
    return torch.unflatten(rows, 0, (sizes.n_sets, -1)).permute(0, 3, 1, 2).flatten(0, 1)


# ---- as a function of autograd and vmap ----------------------------------------------------------

BAG, HEAD = 0, 1

LANDMARKS = ((BAG, 0), *((HEAD, 0),) * 6, *((HEAD, 2),) * 3)
"""Where the dimension of bags, or of bags times heads, lies in `_Landmarks` and `Steps`."""

ALL = ((BAG, 0), (BAG, 0), (BAG, 0), (HEAD, 0), (HEAD, 0), (HEAD, 0), *LANDMARKS)
FIRST = ((BAG, 0), (BAG, 0), (BAG, 0), (HEAD, 0), (HEAD, 0), (HEAD, 0), (HEAD, 0), (BAG, 0), *LANDMARKS)


class _Mixed(torch.autograd.Function):
    """Mixed tokens and attention as in `mixed`, and what the gradient needs.

    Tokens are [*S, *B, n, H], and weights [*S, *1, 3 H, H], kernels [*S, *1, h, s], as in `side_by_side`: S are leading
    dimensions in which the weights differ, B those of bags. It is one function because inside vmap each operation of its own
    costs more than it computes.
    """

    @staticmethod
    def forward(tokens: Tensor, weight: Tensor, kernels: Tensor, plan: Plan) -> tuple[Tensor, ...]:
        sizes = _Sizes(plan, tokens, weight)
        run, places = (_first_forward, FIRST) if plan.first_only else (_all_forward, ALL)
        with without_autocast(tokens.device):
            found = run(sizes, *_flat(tokens, weight, kernels))
        return tuple(_opened(each, sizes, *place) for each, place in zip(found, places, strict=True))

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        *given, ctx.plan = inputs
        kept = output[1:] if ctx.plan.first_only else output[2:]
        ctx.save_for_backward(*given, *kept)
        ctx.mark_non_differentiable(*output[1:])
        ctx.set_materialize_grads(False)

    @staticmethod
    def backward(ctx: Any, of_out: Tensor | None, *_: None) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        if of_out is None:
            return None, None, None, None
        return (*_MixedBackward.apply(ctx.plan, of_out, *ctx.saved_tensors), None)  # type: ignore[no-untyped-call]

    @staticmethod
    def vmap(
        info: Any, in_dims: tuple[int | None, ...], tokens: Tensor, weight: Tensor, kernels: Tensor, plan: Plan
    ) -> tuple[tuple[Tensor, ...], tuple[int, ...]]:
        own = in_dims[1] is not None or in_dims[2] is not None or any(n != 1 for n in weight.shape[:-2])
        given = [
            _in_front(tokens, in_dims[0], 0, info.batch_size),
            *(_in_front(each, dim, 0, info.batch_size if own else 1) for each, dim in zip((weight, kernels), in_dims[1:], strict=False)),
        ]
        return _Mixed.apply(*given, plan), tuple(place for _, place in (FIRST if plan.first_only else ALL))  # type: ignore[no-untyped-call]


class _MixedBackward(torch.autograd.Function):
    """Gradients of tokens, weight and kernels. It is a function so that under vmap it computes with plain tensors too."""

    @staticmethod
    def forward(plan: Plan, of_out: Tensor, *saved: Tensor) -> tuple[Tensor, ...]:
        tokens, weight, kernels = saved[:3]
        sizes = _Sizes(plan, tokens, weight)
        run, places = (_first_backward, FIRST[1:]) if plan.first_only else (_all_backward, ALL[2:])
        kept = tuple(_closed(each, sizes, *place) for each, place in zip(saved[3:], places, strict=True))
        flat = (of_out.reshape(-1, *of_out.shape[-2:]), *_flat(tokens, weight, kernels))
        with without_autocast(tokens.device):
            found = run(sizes, *flat, kept)
        return tuple(each.reshape(like.shape) for each, like in zip(found, saved[:3], strict=True))

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        ctx.mark_non_differentiable(*output)

    @staticmethod
    def vmap(
        info: Any, in_dims: tuple[Any, ...], plan: Plan, *given: Tensor
    ) -> tuple[tuple[Tensor, ...], tuple[int, int, int]]:
        ahead = [0, 0, 0, 0, *(place for _, place in (FIRST[1:] if plan.first_only else ALL[2:]))]
        moved = [_in_front(*each, info.batch_size) for each in zip(given, in_dims[1:], ahead, strict=True)]
        return _MixedBackward.apply(plan, *moved), (0, 0, 0)  # type: ignore[no-untyped-call]


def _flat(tokens: Tensor, weight: Tensor, kernels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Tokens [G, n, H], weights [S, 3 H, H] and kernels [S, h, s]."""
    return tuple(each.reshape(-1, *each.shape[-2:]) for each in (tokens, weight, kernels))  # type: ignore[return-value]


def _opened(x: Tensor, sizes: _Sizes, kind: int, at: int) -> Tensor:
    """`x` with the leading dimensions in place of dimension `at`."""
    inner = (sizes.heads,) if kind == HEAD else ()
    return x.reshape(*x.shape[:at], *sizes.lead, *inner, *x.shape[at + 1 :])


def _closed(x: Tensor, sizes: _Sizes, kind: int, at: int) -> Tensor:
    """The reverse of `_opened`."""
    n_open = len(sizes.lead) + (kind == HEAD)
    return x.reshape(*x.shape[:at], x.shape[at : at + n_open].numel(), *x.shape[at + n_open :])


def _in_front(x: Tensor, dim: int | None, at: int, size: int) -> Tensor:
    """`x` with its dimension `dim` at place `at`; without one, a new dimension of this size."""
    if dim is not None:
        return x.movedim(dim, at)
    return x.unsqueeze(at).expand(*x.shape[:at], size, *x.shape[at:])
