"""Nyström mixing of all tokens in blocks of rows, and its gradients. Shapes as in `landmarks`."""

from __future__ import annotations

import torch
from torch import Tensor

from milbench_baselines.layers import sequence_blocks
from milbench_baselines.layers.landmarks import (
    Landmarks,
    Sizes,
    landmarks,
    landmarks_backward,
    linear_of_sets,
    of_weight,
)
from milbench_baselines.layers.products import bmm
from milbench_baselines.layers.pseudo_inverse_product import (
    Steps,
    whole_steps,
    whole_steps_backward,
    with_columns,
    with_columns_backward,
)

NARROW = 32
"""Most landmarks whose softmax goes along columns: along rows, torch spends its time on starting them."""



def gathered(sizes: Sizes, query: Tensor, keys: Tensor, values: Tensor | None) -> tuple[Tensor, Tensor]:
    """A3 v [G h, g, d] and the logarithms [G h, g, 1] of its softmax's sums, over blocks of keys and values [G, n, H]."""
    highest = query.new_zeros(*query.shape[:2], 1) if sizes.zeros else query.new_full((*query.shape[:2], 1), -torch.inf)
    total, pooled = torch.full_like(highest, float(sizes.zeros)), torch.zeros_like(query)
    asking = query.to(keys.dtype)
    for rows in sizes.blocks():
        logits = bmm(asking, sizes.by_head(keys[:, rows]).mT).to(sizes.wide)        # [G h, g, r]
        higher = torch.maximum(highest, logits.amax(dim=-1, keepdim=True))
        weights = logits.sub_(higher).exp_()
        shrunk = (highest - higher).exp_()
        total = total.mul_(shrunk).add_(weights.sum(dim=-1, keepdim=True))
        if values is not None:
            added = bmm(weights.to(values.dtype), sizes.by_head(values[:, rows]))
            pooled = pooled.mul_(shrunk).add_(added)
        highest = higher
    return pooled.div_(total), total.log_().add_(highest)


def _shares(sizes: Sizes, queries: Tensor, keys: Tensor) -> Tensor:
    """Shares A1 [G h, r, g] of the landmarks `keys` [G h, g, d] for `queries` [G h, r, d]."""
    if sizes.groups > NARROW:
        return sizes.with_count(bmm(queries, keys.mT).to(sizes.wide)).softmax(dim=-1)
    return sizes.with_count(bmm(keys, queries.mT).to(sizes.wide), dim=1).softmax(dim=1).mT


def _shares_backward(sizes: Sizes, shares: Tensor, of_rows: Tensor, solved: Tensor) -> Tensor:
    """Gradient of the logits [G h, r, g], from that of the rows [G h, r, d], which are shares times `solved`."""
    if sizes.groups > NARROW:
        of_shares = bmm(of_rows, solved.mT).to(sizes.wide)
        return torch._softmax_backward_data(of_shares, shares, -1, shares.dtype).to(solved.dtype)
    of_shares = bmm(solved, of_rows.mT).to(sizes.wide)
    return torch._softmax_backward_data(of_shares, shares.mT, 1, shares.dtype).mT.to(solved.dtype)


def all_forward(sizes: Sizes, x: Tensor, w: Tensor, kernels: Tensor) -> tuple[Tensor, ...]:
    """Mixed tokens [G, n, H], an empty attention, and what `all_backward` needs, from tokens `x` [G, n, H].

    `w` [S, 3 H, H] are the projections and `kernels` [S, h, s] the convolution's.
    """
    projected = linear_of_sets(x, w)                                                             # [G, n, 3 H]
    queries, keys, values = projected.chunk(3, dim=-1)
    marks = landmarks(sizes, sizes.means(x), w)
    pooled, sums = gathered(sizes, marks.query, keys, values)
    whole = whole_steps(marks.a, marks.theta, sizes.plan.iterations)                      # (2)
    counted = sizes.scaled(pooled.clone(), 1, 0.5)
    if sizes.inverts:
        columns = torch.eye(sizes.groups, dtype=sizes.wide, device=x.device).expand_as(marks.a)
        steps = with_columns(whole, marks.a, columns, sizes.plan.iterations)
        solved = bmm(bmm(steps.z, steps.last), counted)
    else:
        steps = with_columns(whole, marks.a, counted, sizes.plan.iterations)
        solved = bmm(steps.z, steps.last)
    solved = sizes.scaled(solved, 1, -0.5).to(x.dtype)                                    # Z A3 v
    asked = (marks.key * sizes.scale).to(x.dtype)
    out = x.new_empty(x.shape)
    for rows in sizes.blocks():
        shares = _shares(sizes, sizes.by_head(queries[:, rows]), asked)
        sizes.write(out[:, rows], shares.to(x.dtype), solved)                             # (3)
    if kernels.shape[-1] > 1:
        sequence_blocks.add_convolved(sizes.apart(out), sizes.apart(values), kernels)
    return (out, x.new_empty(len(x), sizes.heads, 0), projected, pooled, sums, solved, *marks, *steps)


def all_backward(
    sizes: Sizes, of_out: Tensor, x: Tensor, w: Tensor, kernels: Tensor, saved: tuple[Tensor, ...]
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of tokens, projections and kernels from that of the mixed tokens [G, n, H]; `saved` is the forward's rest."""
    projected, pooled, sums, solved = saved[:4]
    marks, steps = Landmarks(*saved[4:11]), Steps(*saved[11:])
    queries, keys, values = projected.chunk(3, dim=-1)
    asked = (marks.key * sizes.scale).to(x.dtype)
    of_solved, of_asked = torch.zeros_like(pooled), torch.zeros_like(pooled)
    of_queries = torch.empty_like(of_out)
    for rows in sizes.blocks():
        query, of_rows = sizes.by_head(queries[:, rows]), sizes.by_head(of_out[:, rows])
        shares = _shares(sizes, query, asked)
        of_solved += bmm(shares.to(x.dtype).mT, of_rows)
        of_logits = _shares_backward(sizes, shares, of_rows, solved)
        of_asked += bmm(of_logits.mT, query)
        sizes.write(of_queries[:, rows], of_logits, asked)
    of_solved = sizes.scaled(of_solved, 1, -0.5)
    if sizes.inverts:
        of_inverse = bmm(of_solved, sizes.scaled(pooled.clone(), 1, 0.5).mT)
        of_pooled = bmm(bmm(steps.z, steps.last).mT, of_solved)
        of_y, _ = with_columns_backward(steps, bmm(steps.z.mT, of_inverse))
        of_z = bmm(of_inverse, steps.last.mT)
    else:
        of_y, of_pooled = with_columns_backward(steps, bmm(steps.z.mT, of_solved))
        of_z = bmm(of_solved, steps.last.mT)
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
        weights = bmm(asking, key.mT).to(sizes.wide).sub_(sums).exp_()              # [G h, g, r]
        of_all = x.new_empty(len(x), rows.stop - rows.start, 3 * sizes.width)
        of_own_queries, of_keys, of_own_values = of_all.chunk(3, dim=-1)
        of_own_queries.copy_(of_queries[:, rows])
        sizes.write(of_own_values, weights.to(x.dtype).mT, of_gathered)
        of_own_values += of_values[:, rows]
        of_logits = bmm(of_gathered, value.mT).to(sizes.wide).sub_(shared).mul_(weights).to(x.dtype)
        of_query += bmm(of_logits, key)
        sizes.write(of_keys, of_logits.mT, asking)
        of_x[:, rows] = linear_of_sets(of_all, w.mT)
        of_w += of_weight(of_all, x[:, rows], sizes.n_sets)
    of_means, of_landmarks = landmarks_backward(
        sizes, marks, w, whole_steps_backward(steps.whole, marks.a, marks.theta, of_z, of_y), of_query, of_key
    )
    sizes.add_of_means(of_x, of_means)
    of_w[:, : 2 * sizes.width] += of_landmarks
    return of_x, of_w.to(w.dtype), of_kernels
