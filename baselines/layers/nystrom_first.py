"""Nyström mixing of the first token alone, and its gradients. Shapes as in `landmarks`.

Its row of A1 Z is a vector. With it, A1 Z A3 is one row of attention, which pools the tokens before they are projected to
values: neither A3 v nor v is computed. The convolution's row adds its kernel to the attention of the tokens that it reads.
"""

from __future__ import annotations

import torch
from torch import Tensor

from milbench_baselines.layers.landmarks import (
    Landmarks,
    Sizes,
    landmarks,
    landmarks_backward,
    linear_of_sets,
    of_weight,
)
from milbench_baselines.layers.nystrom_all import gathered
from milbench_baselines.layers.products import baddbmm, bmm
from milbench_baselines.layers.pseudo_inverse_product import (
    Steps,
    whole_steps,
    whole_steps_backward,
    with_columns,
    with_columns_backward,
)


def first_forward(sizes: Sizes, x: Tensor, w: Tensor, kernels: Tensor) -> tuple[Tensor, ...]:
    """Mixed first token [G, 1, H], its attention [G, h, n], and what `first_backward` needs; arguments as for all tokens."""
    to_query, to_key, to_value = w.chunk(3, dim=1)
    keys = linear_of_sets(x, to_key)                                                             # [G, n, H]
    marks = landmarks(sizes, sizes.means(x), w)
    first = sizes.by_head(linear_of_sets(x[:, :1].to(sizes.wide), to_query.to(sizes.wide)))      # [G h, 1, d]
    shares = sizes.with_count(bmm(first, marks.key.mT).mul_(sizes.scale)).softmax(dim=-1)  # [G h, 1, g]
    wanted = sizes.scaled(shares.clone(), 2, -0.5)
    whole = whole_steps(marks.a, marks.theta, sizes.plan.iterations)
    steps = with_columns(whole, marks.a, bmm(whole[-1, 0].mT, wanted.mT), sizes.plan.iterations)  # [G h, g, 1]
    _, sums = gathered(sizes, marks.query, keys, None)
    weights = sizes.scaled(steps.last.clone(), 1, 0.5)                          # [G h, g, 1]  A1 Z
    attention = x.new_empty(len(x), sizes.heads, sizes.n, dtype=sizes.wide)
    pooled = _near(sizes, kernels) @ x[:, : sizes.near(kernels)].to(sizes.wide)           # [G, h, H]
    for rows in sizes.blocks():
        of_landmarks = _exponentials(sizes, marks.query, keys[:, rows], sums)
        own = torch.unflatten(bmm(weights.mT, of_landmarks), 0, (-1, sizes.heads)).squeeze(2)
        attention[:, :, rows] = own                                                       # A1 Z A3
        pooled += bmm(own, x[:, rows].to(sizes.wide))
    values = bmm(sizes.of_heads(to_value).to(sizes.wide), _sets_last(pooled, sizes))   # [S h, d, B]
    out = _sets_first(values, sizes).flatten(1)[:, None].to(x.dtype)                      # [G, 1, H]
    return (out, attention, keys, sums, first, shares, weights, pooled, *marks, *steps)


def first_backward(
    sizes: Sizes, of_out: Tensor, x: Tensor, w: Tensor, kernels: Tensor, saved: tuple[Tensor, ...]
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of tokens, projections and kernels from that of the mixed token [G, 1, H]; `saved` is the forward's rest."""
    attention, keys, sums, first, shares, weights, pooled = saved[:7]
    marks, steps = Landmarks(*saved[7:14]), Steps(*saved[14:])
    to_query, to_key, to_value = w.to(sizes.wide).chunk(3, dim=1)
    of_out = _sets_last(torch.unflatten(of_out.to(sizes.wide), -1, (sizes.heads, -1)).squeeze(1), sizes)  # [S h, d, B]
    of_pooled = _sets_first(bmm(sizes.of_heads(to_value).mT, of_out), sizes)       # [G, h, H]
    of_to_value = bmm(of_out, _sets_last(pooled, sizes).mT).reshape(to_value.shape)
    of_attention = torch.empty_like(attention)
    of_weights = torch.zeros_like(weights)
    only: list[Tensor] = []
    for rows in sizes.blocks():
        of_attention[:, :, rows] = bmm(of_pooled, x[:, rows].to(sizes.wide).mT)
        only = [_exponentials(sizes, marks.query, keys[:, rows], sums)]
        of_weights += bmm(only[0], of_attention[:, :, rows].flatten(0, 1)[..., None])
    of_y, of_start = with_columns_backward(steps, sizes.scaled(of_weights.clone(), 1, 0.5))
    of_z = bmm(sizes.scaled(shares.clone(), 2, -0.5).mT, of_start.mT)
    of_wanted = bmm(steps.z, of_start).mT
    of_shares = sizes.scaled(of_wanted, 2, -0.5)
    of_logits = torch._softmax_backward_data(of_shares, shares, -1, shares.dtype) * sizes.scale
    of_key = bmm(of_logits.mT, first)
    of_query = torch.zeros_like(of_key)
    of_x, of_to_key = torch.empty_like(x), torch.zeros_like(to_key)
    asking, shared = marks.query.to(x.dtype), -weights * of_weights
    for rows in sizes.blocks():
        of_landmarks = only[0] if len(sizes.blocks()) == 1 else _exponentials(sizes, marks.query, keys[:, rows], sums)
        differing = torch.addcmul(shared, weights, of_attention[:, :, rows].flatten(0, 1)[:, None])
        of_scores = of_landmarks.mul_(differing).to(x.dtype)                              # [G h, g, r]
        of_query += bmm(of_scores, sizes.by_head(keys[:, rows]))
        of_keys = torch.empty_like(keys[:, rows])
        sizes.write(of_keys, of_scores.mT, asking)
        of_rows = linear_of_sets(of_keys, w.chunk(3, dim=1)[1].mT)
        of_x[:, rows] = baddbmm(of_rows, attention[:, :, rows].mT.to(x.dtype), of_pooled.to(x.dtype))
        of_to_key += of_weight(of_keys, x[:, rows], sizes.n_sets)
    near = sizes.near(kernels)
    of_x[:, :near] += (_near(sizes, kernels).mT @ of_pooled).to(x.dtype)
    of_asking = sizes.joined(bmm(of_logits, marks.key))                             # [G, 1, H]
    of_x[:, :1] += linear_of_sets(of_asking, to_query.mT).to(x.dtype)
    of_to_query = of_weight(of_asking, x[:, :1].to(sizes.wide), sizes.n_sets)
    of_means, of_landmarks = landmarks_backward(
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


def _exponentials(sizes: Sizes, query: Tensor, keys: Tensor, sums: Tensor) -> Tensor:
    """Shares A3 [G h, g, r] of some keys [G, r, H], from the logarithms of the softmax's sums."""
    return bmm(query.to(keys.dtype), sizes.by_head(keys).mT).to(sizes.wide).sub_(sums).exp_()


def _near(sizes: Sizes, kernels: Tensor) -> Tensor:
    """Weights [G, h, s'] of the tokens that the convolution's first row reads."""
    middle = kernels.shape[-1] // 2
    own = kernels[..., middle : middle + sizes.near(kernels)].to(sizes.wide)
    return own[:, None].expand(-1, sizes.lead.numel() // sizes.n_sets, -1, -1).flatten(0, 1)


def _sets_last(rows: Tensor, sizes: Sizes) -> Tensor:
    """Rows [S h, c, B] of rows [G, h, c]."""
    return torch.unflatten(rows, 0, (sizes.n_sets, -1)).permute(0, 2, 3, 1).flatten(0, 1)


def _sets_first(rows: Tensor, sizes: Sizes) -> Tensor:
    """Rows [G, h, c] of rows [S h, c, B]."""
    return torch.unflatten(rows, 0, (sizes.n_sets, -1)).permute(0, 3, 1, 2).flatten(0, 1)
