"""The approximate pseudo-inverse of `pseudo_inverse_product` for tiny matrices: every step computes Z, in as few operations as possible.

With E = I - A Z a step is Z <- Z + Z Q, Q = E + E^2 + E^3 / 4. It is the step of `pseudo_inverse_product`; matrices so small
cost less to multiply than an operation to start.

Shapes: M matrices [g, g], K steps.
"""

from __future__ import annotations

import torch
from torch import Tensor

from milbench_baselines.layers.products import baddbmm, bmm


def inverse_steps(a: Tensor, theta: Tensor, iterations: int) -> Tensor:
    """Z, E, E^2 and Q [K + 1, 4, M, g, g] of each step for A [M, g, g] and the first Z, theta A^T; the last Z is the result."""
    steps = a.new_empty(iterations + 1, 4, *a.shape)
    eye = torch.eye(a.shape[-1], dtype=a.dtype, device=a.device)
    places = steps.flatten(0, 1).unbind()
    torch.mul(a.mT, theta, out=places[0])
    for at in range(0, 4 * iterations, 4):
        z, e, square, q, following = places[at : at + 5]
        baddbmm(eye, a, z, alpha=-1, out=e)
        bmm(e, e, out=square)
        torch.add(e, square, out=q).baddbmm_(square, e, alpha=0.25)
        baddbmm(z, z, q, out=following)
    return steps


def inverse_steps_backward(steps: Tensor, a: Tensor, theta: Tensor, of_z: Tensor) -> tuple[Tensor, Tensor]:
    """Gradients of A [M, g, g] and of log theta [M], from that of the last Z."""
    of_a = torch.zeros_like(a)
    for z, e, square, q in reversed(steps[:-1].unbind()):
        of_q = bmm(z.mT, of_z)
        of_z = baddbmm(of_z, of_z, q.mT)
        of_square = baddbmm(of_q, of_q, e.mT, alpha=0.25)
        of_e = baddbmm(of_q, square.mT, of_q, alpha=0.25)
        of_e.baddbmm_(of_square, e.mT).baddbmm_(e.mT, of_square)
        of_a.baddbmm_(of_e, z.mT, alpha=-1)
        of_z.baddbmm_(a.mT, of_e, alpha=-1)
    return of_a.add_(of_z.mT * theta), (of_z * steps[0, 0]).sum(dim=(1, 2))


def pseudo_inverse(a: Tensor, iterations: int) -> Tensor:
    """Inverses [h, m, m] of A [h, m, m], whose heads share theta, by steps as the code writes them, which torch differentiates."""
    eye = torch.eye(a.shape[-1], dtype=a.dtype, device=a.device)
    z = a.mT / (a.sum(dim=-1).amax() * a.sum(dim=-2).amax())
    for _ in range(iterations):
        az = a @ z
        z = 0.25 * z @ (13 * eye - az @ (15 * eye - az @ (7 * eye - az)))
    return z
