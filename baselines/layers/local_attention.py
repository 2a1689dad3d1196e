"""Attention of each patch to its nearest patches alone, without a copy of their keys and values for the backward.

Every patch has K neighbours, so their keys are K times as many numbers as the bag's: 2.6 GB for 20,000 patches. Here
they are gathered a few patches at a time, in the forward and again in the backward. What is kept are the queries, keys,
values and neighbours.

Gradients of keys and values are sums over the patches whose neighbour a patch is. They are summed in the order of those
patches, so that the same step gives the same bits.
"""

from __future__ import annotations

from math import sqrt
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import embedding_bag

from milbench_baselines.layers.precision import without_autocast

GATHERED = {"cpu": 2**19}
"""Numbers that are gathered at once: what a CPU's cache holds."""

GATHERED_ELSEWHERE = 2**26

Edges = tuple[Tensor, Tensor, Tensor]
"""Rows that are summed, [E]; where each sum starts among them, [N]; and the place of each row's weight, [E]."""


def local_attention(q: Tensor, k: Tensor, v: Tensor, neighbours: Tensor, *, heads: int, limit: float) -> Tensor:
    """Results [N, W] of attention to neighbours, head by head.

    With d = W / heads and j over the neighbours of i::

        s_ij = clamp(q_i . k_j / sqrt d, -limit, limit)
        o_i = sum_j exp(s_ij) v_j / sum_j exp(s_ij)

    A score beyond the limit has no gradient. bfloat16 is summed in float32.

    Parameters
    ----------
    q, k, v : [N, W]; each head has d columns of its own.
    neighbours : int64 [N, K].
    """
    return _LocalAttention.apply(q, k, v, neighbours, heads, limit)  # type: ignore[no-any-return, no-untyped-call]


def local_weights(q: Tensor, k: Tensor, neighbours: Tensor, *, heads: int, limit: float) -> Tensor:
    """Weights [heads, N, K] of `local_attention`, float32 at least; rows sum to 1."""
    return _scores(_at_least_float32(q), _at_least_float32(k), neighbours, heads).clamp(-limit, limit).softmax(dim=-1)


def received(weights: Tensor, neighbours: Tensor) -> Tensor:
    """What each patch gets of the weights [heads, N, K]: [heads, N], rows sum to 1."""
    found, starts, places = _by_neighbour(neighbours)
    ones = weights.new_ones(len(neighbours), 1)
    each = [embedding_bag(found, ones, starts, mode="sum", per_sample_weights=own.flatten()[places]) for own in weights]
    return torch.stack(each)[..., 0] / len(neighbours)


class _LocalAttention(torch.autograd.Function):
    """Results [N, W]. Inside vmap, many bags are one long bag, whose neighbours are counted on."""

    @staticmethod
    def forward(q: Tensor, k: Tensor, v: Tensor, neighbours: Tensor, heads: int, limit: float) -> Tensor:
        with without_autocast(q.device):
            weights = local_weights(q, k, neighbours, heads=heads, limit=limit)      # [heads, N, K]
            return _weighted_sums(weights, _at_least_float32(v), _by_patch(neighbours)).to(v.dtype)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        *tensors, ctx.heads, ctx.limit = inputs
        ctx.save_for_backward(*tensors)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        of_all: tuple[Tensor, ...] = _LocalGradients.apply(gradient, *ctx.saved_tensors, ctx.heads, ctx.limit)  # type: ignore[no-untyped-call]
        return *of_all, None, None, None

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int | None, ...], *inputs: Any) -> tuple[Tensor, int]:
        *tensors, heads, limit = inputs
        out: Tensor = _LocalAttention.apply(*_one_long_bag(info.batch_size, in_dims, tensors), heads, limit)  # type: ignore[no-untyped-call]
        return out.reshape(info.batch_size, -1, out.shape[-1]), 0


class _LocalGradients(torch.autograd.Function):
    """Gradients of queries, keys and values, each [N, W], from that of the results, [N, W]."""

    @staticmethod
    def forward(
        gradient: Tensor, q: Tensor, k: Tensor, v: Tensor, neighbours: Tensor, heads: int, limit: float
    ) -> tuple[Tensor, ...]:
        with without_autocast(q.device):
            dtypes = [each.dtype for each in (q, k, v)]
            gradient, q, k, v = map(_at_least_float32, (gradient, q, k, v))
            scores = _scores(q, k, neighbours, heads)                                # [heads, N, K]
            weights = scores.clamp(-limit, limit).softmax(dim=-1)
            of_weights = _products(gradient, v, neighbours, heads)
            mean = (weights * of_weights).sum(dim=-1, keepdim=True)
            of_scores = weights * (of_weights - mean) * (scores.abs() <= limit) / sqrt(q.shape[-1] // heads)
            own, others = _by_patch(neighbours), _by_neighbour(neighbours)
            of_q = _weighted_sums(of_scores, k, own)
            of_k = _weighted_sums(of_scores, q, others)
            of_v = _weighted_sums(weights, gradient, others)
            return tuple(each.to(dtype) for each, dtype in zip((of_q, of_k, of_v), dtypes, strict=True))

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        """Nothing is kept: no gradient is taken of a gradient."""

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int | None, ...], *inputs: Any) -> tuple[tuple[Tensor, ...], tuple[int, ...]]:
        *tensors, heads, limit = inputs
        of_all: tuple[Tensor, ...] = _LocalGradients.apply(*_one_long_bag(info.batch_size, in_dims, tensors), heads, limit)  # type: ignore[no-untyped-call]
        return tuple(each.reshape(info.batch_size, -1, each.shape[-1]) for each in of_all), (0, 0, 0)


def _one_long_bag(n_bags: int, in_dims: tuple[int | None, ...], tensors: list[Tensor]) -> list[Tensor]:
    """Tensors [B N, W] and neighbours [B N, K] of B bags, the neighbours last."""
    *rows, neighbours = (
        each.expand(n_bags, *each.shape) if dim is None else each.movedim(dim, 0)
        for each, dim in zip(tensors, in_dims, strict=False)
    )
    first = torch.arange(n_bags, device=neighbours.device)[:, None, None] * neighbours.shape[1]
    return [*(each.flatten(0, 1) for each in rows), (neighbours + first).flatten(0, 1)]


def _at_least_float32(x: Tensor) -> Tensor:
    return x if x.dtype == torch.float64 else x.float()


def _scores(q: Tensor, k: Tensor, neighbours: Tensor, heads: int) -> Tensor:
    """q_i . k_j / sqrt d, [heads, N, K]."""
    return _products(q, k, neighbours, heads) / sqrt(q.shape[-1] // heads)


def _products(rows: Tensor, others: Tensor, neighbours: Tensor, heads: int) -> Tensor:
    """Products [heads, N, K] of each row of `rows` [N, W] and its neighbours' in `others` [N, W], a head at a time."""
    n, k = neighbours.shape
    width = rows.shape[-1]
    at_once = max(1, GATHERED.get(rows.device.type, GATHERED_ELSEWHERE) // (k * width))
    out = rows.new_empty(heads, n, k)
    for start in range(0, n, at_once):
        part = slice(start, start + at_once)
        found = others.index_select(0, neighbours[part].flatten()).reshape(-1, k, width)
        found.mul_(rows[part, None])
        out[:, part] = found.reshape(-1, k, heads, width // heads).sum(dim=-1).permute(2, 0, 1)
    return out


def _weighted_sums(weights: Tensor, rows: Tensor, edges: Edges) -> Tensor:
    """Sums [N, W] of rows [N, W] by their weights [heads, N, K], along the edges."""
    found, starts, places = edges
    parts = zip(weights, rows.reshape(len(rows), len(weights), -1).unbind(dim=1), strict=True)
    return torch.cat(
        [
            embedding_bag(found, part.contiguous(), starts, mode="sum", per_sample_weights=own.flatten()[places])
            for own, part in parts
        ],
        dim=1,
    )


def _by_patch(neighbours: Tensor) -> Edges:
    """Edges to each patch from its neighbours."""
    places = torch.arange(neighbours.numel(), device=neighbours.device)
    return neighbours.flatten(), places[:: neighbours.shape[1]], places


def _by_neighbour(neighbours: Tensor) -> Edges:
    """Edges to each patch from those whose neighbour it is, in their order."""
    n, k = neighbours.shape
    sorted_, places = neighbours.flatten().sort(stable=True)
    starts = torch.searchsorted(sorted_, torch.arange(n, device=neighbours.device))
    return places // k, starts, places
