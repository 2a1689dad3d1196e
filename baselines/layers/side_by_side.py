"""Layers of one shape side by side, one a task, an expert or a channel, applied in one product instead of one by one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.functional import layer_norm, linear

from milbench_baselines.layers.precision import without_autocast

Layers = Sequence[nn.Module] | nn.ModuleList


def stacked(layers: Layers) -> tuple[Tensor, Tensor]:
    """Weights [K, O, I] and biases [K, O] of K linear layers."""
    weights, biases = zip(*((layer.weight, layer.bias) for layer in cast(Sequence[nn.Linear], layers)), strict=True)
    return torch.stack(weights), torch.stack(biases)


def each_of_one(layers: Layers, x: Tensor) -> Tensor:
    """[K, O]: what every layer makes of the one row `x` [I]."""
    weight, bias = stacked(layers)
    return weight @ x + bias


def each_of_one_bag(layers: Layers, x: Tensor) -> Tensor:
    """[N, K, O]: what every layer makes of every row of `x` [N, I]."""
    weight, bias = stacked(layers)
    return linear(x, weight.flatten(0, 1), bias.flatten()).reshape(len(x), *bias.shape)


def each_of_its_own(layers: Layers, x: Tensor) -> Tensor:
    """[K, N, O]: what every layer makes of its rows of `x` [K, N, I]."""
    if len(layers) == 1:
        return cast(Tensor, layers[0](x.squeeze(0))).unsqueeze(0)
    weight, bias = stacked(layers)
    return by_its_own(x, weight) + bias[:, None]


def of_each(modules: Sequence[Any], rows: Tensor, *arguments: Any, dim: int = 0) -> Tensor:
    """What modules of one class make, each of its own rows along `dim`: their class's `of_all`.

    A single one is called as the module that it is: whoever watches modules, such as `recomputing`, then sees it.
    """
    if len(modules) == 1:
        return modules[0](rows.squeeze(dim), *arguments).unsqueeze(dim)  # type: ignore[no-any-return]
    return type(modules[0]).of_all(modules, rows, *arguments)  # type: ignore[no-any-return]


def normalised_each(norms: Layers, x: Tensor) -> Tensor:
    """[N, K, I]: what every layer normalisation makes of its rows of `x` [N, K, I]."""
    made = cast(Sequence[nn.LayerNorm], norms)
    if len(made) == 1:
        return cast(Tensor, made[0](x))
    weight, bias = torch.stack([norm.weight for norm in made]), torch.stack([norm.bias for norm in made])
    return torch.addcmul(bias, layer_norm(x, x.shape[-1:], eps=made[0].eps), weight)


def by_its_own(rows: Tensor, matrices: Tensor) -> Tensor:
    """[K, N, P]: out[k, n] = matrices[k] rows[k, n], of rows [K, N, Q] and matrices [K, P, Q].

    For small bags that are mapped over: vmap's own rule for such products would copy the matrices for every bag, while here
    the rows of all bags go through one product a matrix. In the matrices' dtype, whatever autocast would have it be.
    """
    return _ByItsOwn.apply(rows.to(matrices.dtype), matrices)  # type: ignore[no-any-return, no-untyped-call]


class _ByItsOwn(torch.autograd.Function):
    """Rows [*S, *B, K, N, Q] and matrices [*S, *1, K, P, Q]: S are the leading dimensions in which the matrices differ."""

    @staticmethod
    def forward(rows: Tensor, matrices: Tensor) -> Tensor:
        with without_autocast(rows.device):  # the backward runs outside of it too
            return _apart(_together(rows, matrices) @ _plain(matrices).mT, rows, matrices)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        rows, matrices = ctx.saved_tensors
        of_out = _together(gradient, matrices)
        of_matrices = of_out.mT @ _together(rows, matrices)
        return _apart(of_out @ _plain(matrices), rows, matrices), of_matrices.reshape(matrices.shape)

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int | None, int | None], rows: Tensor, matrices: Tensor) -> tuple[Tensor, int]:
        of_rows, of_matrices = in_dims
        rows = rows.expand(info.batch_size, *rows.shape) if of_rows is None else rows.movedim(of_rows, 0)
        if of_matrices is not None:
            matrices = matrices.movedim(of_matrices, 0)
        else:
            matrices = matrices.expand(info.batch_size if _own(matrices) else 1, *matrices.shape)
        return _ByItsOwn.apply(rows, matrices), 0  # type: ignore[no-untyped-call]


def _own(matrices: Tensor) -> list[int]:
    """S."""
    return [n for n in matrices.shape[:-3] if n != 1]


def _plain(matrices: Tensor) -> Tensor:
    """[*S, K, P, Q]."""
    return matrices.reshape(*_own(matrices), *matrices.shape[-3:])


def _together(rows: Tensor, matrices: Tensor) -> Tensor:
    """[*S, K, B N, Q], laid out anew: of a view torch would copy every matrix by itself."""
    s, (k, n, q) = _own(matrices), rows.shape[-3:]
    return rows.reshape(*s, -1, k, n, q).transpose(len(s), len(s) + 1).reshape(*s, k, -1, q).contiguous()


def _apart(out: Tensor, rows: Tensor, matrices: Tensor) -> Tensor:
    """[*S, *B, K, N, P] of [*S, K, B N, P]."""
    s, (k, n, _) = _own(matrices), rows.shape[-3:]
    return out.reshape(*s, k, -1, n, out.shape[-1]).transpose(len(s), len(s) + 1).reshape(*rows.shape[:-1], -1)
