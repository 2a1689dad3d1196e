"""Nyström mixing of a bag's tokens in blocks of rows: what `NystromAttention` does between its two linear layers.

No matrix of tokens x landmarks is kept. Each block of tokens is multiplied with the landmarks, goes through its softmax and
is used while it lies in the cache; the backward computes it again. A softmax over the tokens merges exactly from block
to block with a running maximum.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from milbench_baselines.layers.landmarks import Plan, Sizes
from milbench_baselines.layers.nystrom_all import all_backward, all_forward
from milbench_baselines.layers.nystrom_first import first_backward, first_forward
from milbench_baselines.layers.precision import as_in_products, without_autocast
from milbench_baselines.layers.row_blocks import no_second_gradient


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


# ---- as a function of autograd and vmap ----------------------------------------------------------

BAG, HEAD = 0, 1

LANDMARKS = ((BAG, 0), *((HEAD, 0),) * 6, *((HEAD, 2),) * 3)
"""Where the dimension of bags, or of bags times heads, lies in `Landmarks` and `Steps`."""

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
        sizes = Sizes(plan, tokens, weight)
        run, places = (first_forward, FIRST) if plan.first_only else (all_forward, ALL)
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
        sizes = Sizes(plan, tokens, weight)
        run, places = (first_backward, FIRST[1:]) if plan.first_only else (all_backward, ALL[2:])
        kept = tuple(_closed(each, sizes, *place) for each, place in zip(saved[3:], places, strict=True))
        flat = (of_out.reshape(-1, *of_out.shape[-2:]), *_flat(tokens, weight, kernels))
        with without_autocast(tokens.device):
            found = run(sizes, *flat, kept)
        return tuple(each.reshape(like.shape) for each, like in zip(found, saved[:3], strict=True))

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        """Nothing is kept."""

    backward = staticmethod(no_second_gradient)  # type: ignore[assignment]

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


def _opened(x: Tensor, sizes: Sizes, kind: int, at: int) -> Tensor:
    """`x` with the leading dimensions in place of dimension `at`."""
    inner = (sizes.heads,) if kind == HEAD else ()
    return x.reshape(*x.shape[:at], *sizes.lead, *inner, *x.shape[at + 1 :])


def _closed(x: Tensor, sizes: Sizes, kind: int, at: int) -> Tensor:
    """The reverse of `_opened`."""
    n_open = len(sizes.lead) + (kind == HEAD)
    return x.reshape(*x.shape[:at], x.shape[at : at + n_open].numel(), *x.shape[at + n_open :])


def _in_front(x: Tensor, dim: int | None, at: int, size: int) -> Tensor:
    """`x` with its dimension `dim` at place `at`; without one, a new dimension of this size."""
    if dim is not None:
        return x.movedim(dim, at)
    return x.unsqueeze(at).expand(*x.shape[:at], size, *x.shape[at:])
