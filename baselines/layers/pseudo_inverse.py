"""Approximate Moore-Penrose inverse of square matrices by iteration, for Nyström attention.

paper   : Razavi et al., "A new iterative method for finding approximate inverses of complex matrices", 2014, as used in
          Xiong et al., "Nyströmformer", AAAI 2021.
code    : nystrom-attention 0.0.14, `moore_penrose_iter_pinv`.
differs : a step's gradient is written out, so that the matrices of all bags and models go through each product together.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .precision import without_autocast


def pseudo_inverse(a: Tensor, iterations: int) -> Tensor:
    """Approximate inverses Z [heads, m, m] of A [heads, m, m].

    Z starts as A^T / (largest row sum x largest column sum) and takes steps (1) to (3)::

        U <- 15 I - A Z (7 I - A Z)   (1)
        V <- 13 I - A Z U             (2)
        Z <- Z V / 4                  (3)

    The start is scaled by sums over ALL heads together, as in the official code.
    """
    z = a.mT / (a.abs().sum(dim=-1).max() * a.abs().sum(dim=-2).max())
    for _ in range(iterations):
        z = _Step.apply(a, z)[0]  # type: ignore[no-untyped-call]
    return z


class _Step(torch.autograd.Function):
    """One step from A and Z, [..., m, m] both; returns the next Z, and A Z, U and V for the gradient."""

    @staticmethod
    def forward(a: Tensor, z: Tensor) -> tuple[Tensor, ...]:
        shape, a, z = a.shape, _flat(a), _flat(z)
        eye = torch.eye(shape[-1], dtype=a.dtype, device=a.device)
        with without_autocast(a.device):  # the backward runs outside of it too
            az = a @ z
            u = torch.baddbmm(15 * eye, az, 7 * eye - az, alpha=-1)                     # (1)
            v = torch.baddbmm(13 * eye, az, u, alpha=-1)                                # (2)
            following = (z @ v).mul_(0.25)                                              # (3)
        return tuple(each.reshape(shape) for each in (following, az, u, v))

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor], output: tuple[Tensor, ...]) -> None:
        ctx.save_for_backward(*inputs, *output[1:])
        ctx.mark_non_differentiable(*output[1:])
        ctx.set_materialize_grads(False)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor, *_: Tensor | None) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        shape = gradient.shape
        a, z, az, u, v = (_flat(each) for each in ctx.saved_tensors)
        gradient = _flat(gradient) * 0.25
        of_v, of_z = z.mT @ gradient, gradient @ v.mT                                   # (3)
        of_u, of_az = -(az.mT @ of_v), of_v @ u.mT                                      # (2); of_az with the other sign
        of_az = torch.baddbmm(torch.baddbmm(of_u, of_u, az.mT, beta=-7), az.mT, of_u) - of_az  # (1)
        return (of_az @ z.mT).reshape(shape), torch.baddbmm(of_z, a.mT, of_az).reshape(shape)

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int | None, int | None], *given: Tensor) -> tuple[tuple[Tensor, ...], tuple[int, ...]]:
        a, z = (
            each.expand(info.batch_size, *each.shape) if dim is None else each.movedim(dim, 0)
            for each, dim in zip(given, in_dims, strict=True)
        )
        return _Step.apply(a, z), (0, 0, 0, 0)  # type: ignore[no-untyped-call]


def _flat(matrices: Tensor) -> Tensor:
    """[n, m, m]."""
    return matrices.reshape(-1, *matrices.shape[-2:])
