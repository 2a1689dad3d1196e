"""Attention of rows to all patches of a bag, without a matrix of all pairs for the backward.

Weights of all pairs of 20,000 patches and 8 heads are 13 GB. Here they are made for a few rows at a time, in the forward
and again in the backward. What is kept are the queries, keys and values. Without dropout of the weights, the forward is
torch's fused attention, which is three times as fast on a CPU but has no dropout there.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import sqrt
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from milbench_baselines.layers.dropout import Dropout
from milbench_baselines.layers.precision import without_autocast

WEIGHTS = {"cpu": 2**21}
"""Weights that are made at once: what a CPU's cache holds. Another number gives another draw of dropout."""

WEIGHTS_ELSEWHERE = 2**27

Part = tuple[slice, slice]
"""Bags, and rows of each, whose weights are made at once."""


def full_attention(q: Tensor, k: Tensor, v: Tensor, dropout: Dropout | None = None) -> Tensor:
    """Results [heads, n, d]: dropout(softmax over N of q k^T / sqrt d) v. The softmax is float32 at least.

    Parameters
    ----------
    q, k, v : [heads, n, d], [heads, N, d] and [heads, N, d], of one dtype.
    dropout : of the weights, as its mode says. Its masks come from one number of torch's generator.
    """
    rate = dropout.p if dropout is not None and dropout.training else 0.0
    seed = torch.randint(2**62, (1,), device="cpu") if rate else torch.zeros(1, dtype=torch.int64, device="cpu")
    return _FullAttention.apply(q[None], k[None], v[None], seed, rate)[0]  # type: ignore[no-any-return, no-untyped-call]


def full_weights(q: Tensor, k: Tensor) -> Tensor:
    """Weights [..., n, N] of rows q [..., n, d] for keys k [..., N, d]; float32 at least."""
    scores = (q / sqrt(q.shape[-1])) @ k.mT
    return scores.softmax(dim=-1, dtype=scores.dtype if scores.dtype == torch.float64 else torch.float32)


def received(q: Tensor, k: Tensor) -> Tensor:
    """What each of N patches gets of the weights of q [heads, n, d] for k [heads, N, d]: [heads, N], rows sum to 1."""
    parts = [full_weights(q[:, rows], k).sum(dim=-2) for _, rows in _parts(q[None], k[None])]
    return torch.stack(parts).sum(dim=0) / q.shape[-2]


class _FullAttention(torch.autograd.Function):
    """Results [B, heads, n, d] of B bags, with one seed each."""

    @staticmethod
    def forward(q: Tensor, k: Tensor, v: Tensor, seeds: Tensor, rate: float) -> Tensor:
        with without_autocast(q.device):
            if not rate:
                return scaled_dot_product_attention(q, k, v)
            out = v.new_empty(*q.shape[:-1], v.shape[-1])
            for bags, rows in _parts(q, k):
                weights = full_weights(q[bags, :, rows], k[bags])
                weights *= _factors(weights, seeds[bags], rate, rows)
                out[bags, :, rows] = weights.to(v.dtype) @ v[bags]
            return out

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        *tensors, ctx.rate = inputs
        ctx.save_for_backward(*tensors)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        of_all: tuple[Tensor, ...] = _FullGradients.apply(gradient, *ctx.saved_tensors, ctx.rate)  # type: ignore[no-untyped-call]
        return *of_all, None, None

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int | None, ...], *inputs: Any) -> tuple[Tensor, int]:
        *tensors, rate = inputs
        out: Tensor = _FullAttention.apply(*_one_list(info.batch_size, in_dims, tensors), rate)  # type: ignore[no-untyped-call]
        return out.reshape(info.batch_size, -1, *out.shape[1:]), 0


class _FullGradients(torch.autograd.Function):
    """Gradients of queries, keys and values from that of the results, [B, heads, n, d]."""

    @staticmethod
    def forward(
        gradient: Tensor, q: Tensor, k: Tensor, v: Tensor, seeds: Tensor, rate: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        of_q, scale = torch.empty_like(q), 1 / sqrt(q.shape[-1])
        of_k, of_v = (torch.zeros_like(each, dtype=_sums(each)) for each in (k, v))
        with without_autocast(q.device):
            for bags, rows in _parts(q, k):
                own_q, own_k, own_v, own = q[bags, :, rows], k[bags], v[bags], gradient[bags, :, rows]
                weights = full_weights(own_q, own_k)                                 # [b, heads, r, N]
                factors = _factors(weights, seeds[bags], rate, rows)
                of_v[bags] += (weights * factors).to(v.dtype).mT @ own
                of_scores = (own @ own_v.mT) * factors * weights
                of_scores = of_scores.addcmul_(weights, of_scores.sum(dim=-1, keepdim=True), value=-1).to(q.dtype)
                of_q[bags, :, rows] = (of_scores @ own_k) * scale
                of_k[bags] += of_scores.mT @ (own_q * scale)
        return of_q, of_k.to(k.dtype), of_v.to(v.dtype)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        """Nothing is kept: no gradient is taken of a gradient."""

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int | None, ...], *inputs: Any) -> tuple[tuple[Tensor, ...], tuple[int, ...]]:
        *tensors, rate = inputs
        of_all: tuple[Tensor, ...] = _FullGradients.apply(*_one_list(info.batch_size, in_dims, tensors), rate)  # type: ignore[no-untyped-call]
        return tuple(each.reshape(info.batch_size, -1, *each.shape[1:]) for each in of_all), (0, 0, 0)


def _one_list(n: int, in_dims: tuple[int | None, ...], tensors: list[Tensor]) -> list[Tensor]:
    """Tensors [n B, ...] of n times B bags."""
    spread = (
        each.expand(n, *each.shape) if dim is None else each.movedim(dim, 0)
        for each, dim in zip(tensors, in_dims, strict=False)
    )
    return [each.flatten(0, 1) for each in spread]


def _parts(q: Tensor, k: Tensor) -> Iterator[Part]:
    """Parts of q [B, heads, n, d] in turn. Where rows are cut does not depend on the number of bags."""
    n_bags, heads, n, _ = q.shape
    room = WEIGHTS.get(q.device.type, WEIGHTS_ELSEWHERE)
    rows = max(1, min(n, room // (heads * k.shape[-2])))
    bags = max(1, room // (heads * n * k.shape[-2])) if rows == n else 1
    for bag in range(0, n_bags, bags):
        for row in range(0, n, rows):
            yield slice(bag, bag + bags), slice(row, row + rows)


def _factors(weights: Tensor, seeds: Tensor, rate: float, rows: slice) -> Tensor | float:
    """Factors of dropout for weights [b, heads, r, N], the same in the backward as in the forward."""
    if not rate:
        return 1.0
    dropout = Dropout(rate)
    return torch.stack([dropout.seeded(tuple(weights.shape[1:]), weights, int(seed) + rows.start) for seed in seeds])


def _sums(x: Tensor) -> torch.dtype:
    return x.dtype if x.dtype == torch.float64 else torch.float32
