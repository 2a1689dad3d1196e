"""Approximate Moore-Penrose inverse of square matrices by iteration, for Nyström attention.

paper    Razavi et al., "A new iterative method for finding approximate inverses of complex matrices", 2014, as used in
         Xiong et al., "Nyströmformer", AAAI 2021
code     nystrom-attention 0.0.14, `moore_penrose_iter_pinv`
differs  the steps' gradient is written out, so that the matrices of all bags and models share each product
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from milbench_baselines.layers.precision import without_autocast


def pseudo_inverse(a: Tensor, iterations: int) -> Tensor:
    """Approximate inverses Z [heads, m, m] of A [heads, m, m].

    Z starts as A^T / (largest row sum x largest column sum) and takes steps (1) to (3)::

        U <- 15 I - A Z (7 I - A Z)   (1)
        V <- 13 I - A Z U             (2)
        Z <- Z V / 4                  (3)

    The two largest sums are taken over ALL heads together, as in the official code.
    """
    z = a.mT / (a.abs().sum(dim=-1).max() * a.abs().sum(dim=-2).max())
    if not iterations:
        return z
    inverse: Tensor = _Iterated.apply(a, z, iterations)[0]  # type: ignore[no-untyped-call]
    return inverse


class _Iterated(torch.autograd.Function):
    """Last Z [*, m, m] of all steps from A and the first Z, and what the gradient needs, [steps 4, *, m, m].

    The gradient needs Z, A Z, U and V of every step. All steps are one function, because entering a function inside vmap
    takes longer than a step.
    """

    @staticmethod
    def forward(a: Tensor, z: Tensor, iterations: int) -> tuple[Tensor, Tensor]:
        shape, a, z = a.shape, _flat(a), _flat(z)
        eye = torch.eye(shape[-1], dtype=a.dtype, device=a.device)
        kept = a.new_empty(iterations, 4, *a.shape)
        with without_autocast(a.device):  # autograd runs the backward outside of autocast too
            for own_z, az, u, v in kept:
                own_z.copy_(z)
                torch.bmm(a, z, out=az)
                torch.baddbmm(15 * eye, az, 7 * eye - az, alpha=-1, out=u)              # (1)
                torch.baddbmm(13 * eye, az, u, alpha=-1, out=v)                         # (2)
                z = torch.bmm(z, v).mul_(0.25)                                          # (3)
        return z.reshape(shape), kept.reshape(-1, *shape)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, int], output: tuple[Tensor, Tensor]) -> None:
        ctx.save_for_backward(inputs[0], output[1])
        ctx.mark_non_differentiable(output[1])
        ctx.set_materialize_grads(False)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor, _: None) -> tuple[Tensor, Tensor, None]:  # type: ignore[override]
        shape, (a, kept) = gradient.shape, ctx.saved_tensors
        a, of_z = _flat(a), _flat(gradient)
        of_a = torch.zeros_like(a)
        for z, az, u, v in reversed(kept.reshape(-1, 4, *a.shape).unbind()):
            of_z = of_z * 0.25
            of_v, of_z = z.mT @ of_z, of_z @ v.mT                                       # (3)
            of_u, of_az = -(az.mT @ of_v), of_v @ u.mT                                  # (2)  of_az has the other sign
            of_az = torch.baddbmm(torch.baddbmm(of_u, of_u, az.mT, beta=-7), az.mT, of_u) - of_az  # (1)
            of_a = torch.baddbmm(of_a, of_az, z.mT)
            of_z = torch.baddbmm(of_z, a.mT, of_az)
        return of_a.reshape(shape), of_z.reshape(shape), None

    @staticmethod
    def vmap(
        info: Any, in_dims: tuple[int | None, int | None, None], a: Tensor, z: Tensor, iterations: int
    ) -> tuple[tuple[Tensor, Tensor], tuple[int, int]]:
        a, z = (
            each.expand(info.batch_size, *each.shape) if dim is None else each.movedim(dim, 0)
            for each, dim in zip((a, z), in_dims, strict=False)
        )
        return _Iterated.apply(a, z, iterations), (0, 1)  # type: ignore[no-untyped-call]


def _flat(matrices: Tensor) -> Tensor:
    """Matrices [n, m, m] of `matrices` [*, m, m]."""
    return matrices.reshape(-1, *matrices.shape[-2:])
