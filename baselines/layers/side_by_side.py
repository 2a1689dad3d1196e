"""Layers of one shape side by side: one per task, expert or channel, applied in one product instead of one by one.

Shapes: K layers, N rows, I inputs, O outputs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.functional import layer_norm

from milbench_baselines.layers.below_vmap import applied
from milbench_baselines.layers.precision import without_autocast
from milbench_baselines.layers.products import linear
from milbench_baselines.layers.usual import are_linear

Layers = Sequence[nn.Module] | nn.ModuleList


def weights_and_biases(layers: Layers) -> tuple[Tensor, Tensor]:
    """Weights [K, O, I] and biases [K, O] of K linear layers."""
    weights, biases = zip(*((layer.weight, layer.bias) for layer in cast(Sequence[nn.Linear], layers)), strict=True)
    return torch.stack(weights), torch.stack(biases)


def linear_on_row(layers: Layers, x: Tensor) -> Tensor:
    """Outputs [K, O] of every layer for one row `x` [I]."""
    if not are_linear(*layers):
        return torch.stack([layer(x) for layer in layers])
    weight, bias = weights_and_biases(layers)
    return weight @ x + bias


def linear_on_shared_bag(layers: Layers, x: Tensor) -> Tensor:
    """Outputs [N, K, O] of every layer for the same bag `x` [N, I]."""
    weight, bias = weights_and_biases(layers)
    return linear(x, weight.flatten(0, 1), bias.flatten()).reshape(len(x), *bias.shape)


def linear_on_own_bags(layers: Layers, x: Tensor) -> Tensor:
    """Outputs [K, N, O]: layer k is applied to bag k of `x` [K, N, I]."""
    if len(layers) > 1 and not are_linear(*layers):
        return torch.stack([layer(own) for layer, own in zip(layers, x, strict=True)])
    return usual_on_own_bags(layers, x)


def usual_on_own_bags(layers: Layers, x: Tensor) -> Tensor:
    """`linear_on_own_bags` of layers that are known to be usual."""
    if len(layers) == 1:
        return cast(Tensor, layers[0](x.squeeze(0))).unsqueeze(0)
    weight, bias = weights_and_biases(layers)
    return by_its_own(x, weight) + bias[:, None]


def layer_norm_on_own_rows(norms: Layers, x: Tensor) -> Tensor:
    """Outputs [N, K, I]: layer normalisation k is applied to `x[:, k]` of `x` [N, K, I]."""
    made = cast(Sequence[nn.LayerNorm], norms)
    if len(made) == 1:
        return cast(Tensor, made[0](x))
    weight, bias = torch.stack([norm.weight for norm in made]), torch.stack([norm.bias for norm in made])
    return torch.addcmul(bias, layer_norm(x, x.shape[-1:], eps=made[0].eps), weight)


def of_each(modules: Sequence[Any], rows: Tensor, *arguments: Any, dim: int = 0) -> Tensor:
    """Outputs of K modules of one class, by the class's `of_all`; module k gets index k of `rows` along `dim`.

    A single module is called as a module, so that code which watches modules (such as `recomputing`) sees the call.
    """
    if len(modules) == 1:
        return modules[0](rows.squeeze(dim), *arguments).unsqueeze(dim)  # type: ignore[no-any-return]
    return type(modules[0]).of_all(modules, rows, *arguments)  # type: ignore[no-any-return]


def by_its_own(rows: Tensor, matrices: Tensor) -> Tensor:
    """Products [K, N, P], out[k, n] = matrices[k] rows[k, n], of rows [K, N, Q] and matrices [K, P, Q].

    Made for many small bags inside vmap. There, torch's own rule copies the matrices for every bag; this function puts
    the rows of all bags into one product per matrix. The result has the matrices' dtype, also under autocast.
    """
    return applied(_ByItsOwn, (), (rows.to(matrices.dtype),), (matrices,), n_outputs=1)[0]


class _ByItsOwn(torch.autograd.Function):
    """Products [*S, *B, K, N, P] of rows [*S, *B, K, N, Q] and matrices [*S, *1, K, P, Q].

    S are the leading dimensions in which the matrices differ (stacked models). B are the others (bags), where the
    matrices have size 1.
    """

    @staticmethod
    def forward(rows: Tensor, matrices: Tensor) -> tuple[Tensor]:
        with without_autocast(rows.device):  # autograd runs the backward outside of autocast too
            return (_apart(_together(rows, matrices) @ _plain(matrices).mT, rows, matrices),)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor], output: tuple[Tensor]) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        rows, matrices = ctx.saved_tensors
        of_out = _together(gradient, matrices)
        of_matrices = of_out.mT @ _together(rows, matrices)
        return _apart(of_out @ _plain(matrices), rows, matrices), of_matrices.reshape(matrices.shape)

    # Example: 5 experts (K), 9 patches (N), 32 -> 16 features (Q -> P), 8 bags (B), 3 stacked models (S).
    #
    #   where                rows               matrices            products in `_together`
    #   one bag              [5, 9, 32]         [5, 16, 32]         5 of [9, 32] by [32, 16]
    #   vmap over bags       [8, 5, 9, 32]      [1, 5, 16, 32]      5 of [72, 32] by [32, 16]
    #   in vmap over models  [3, 8, 5, 9, 32]   [3, 1, 5, 16, 32]   15 of [72, 32] by [32, 16]
    #
    # torch calls this rule for the inner vmap first, so each call puts its dimension in front. If bags are the outer
    # vmap instead, the matrices already differ: they are expanded to [8, 3, 5, 16, 32], as S must lead.
    @staticmethod
    def vmap(info: Any, in_dims: tuple[int | None, int | None], rows: Tensor, matrices: Tensor) -> tuple[tuple[Tensor], tuple[int]]:
        of_rows, of_matrices = in_dims
        rows = rows.expand(info.batch_size, *rows.shape) if of_rows is None else rows.movedim(of_rows, 0)
        if of_matrices is not None:
            matrices = matrices.movedim(of_matrices, 0)
        else:
            matrices = matrices.expand(info.batch_size if _own_sizes(matrices) else 1, *matrices.shape)
        return _ByItsOwn.apply(rows, matrices), (0,)  # type: ignore[no-untyped-call]


def _own_sizes(matrices: Tensor) -> list[int]:
    """Sizes S of the leading dimensions in which the matrices differ: [3] for matrices [3, 1, K, P, Q]."""
    return [n for n in matrices.shape[:-3] if n != 1]


def _plain(matrices: Tensor) -> Tensor:
    """Matrices [*S, K, P, Q], without the dimensions of size 1."""
    return matrices.reshape(*_own_sizes(matrices), *matrices.shape[-3:])


def _together(rows: Tensor, matrices: Tensor) -> Tensor:
    """Rows [*S, K, B N, Q] of all bags, in new memory: for a view torch would copy every matrix separately."""
    s, (k, n, q) = _own_sizes(matrices), rows.shape[-3:]
    return rows.reshape(*s, -1, k, n, q).transpose(len(s), len(s) + 1).reshape(*s, k, -1, q).contiguous()


def _apart(out: Tensor, rows: Tensor, matrices: Tensor) -> Tensor:
    """Results [*S, *B, K, N, P] per bag, from `out` [*S, K, B N, P]."""
    s, (k, n, _) = _own_sizes(matrices), rows.shape[-3:]
    return out.reshape(*s, k, -1, n, out.shape[-1]).transpose(len(s), len(s) + 1).reshape(*rows.shape[:-1], -1)
