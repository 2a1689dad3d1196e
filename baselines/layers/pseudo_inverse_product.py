"""Products with the approximate pseudo-inverse of `pseudo_inverse`, without the inverse: half of its matrix products.

paper    Razavi et al., "A new iterative method for finding approximate inverses of complex matrices", 2014
differs  with Y = A Z and E = I - Y a step is Z <- Z (I + E + E^2 + E^3 / 4), and then Y <- Y (I + E + E^2 + E^3 / 4). Z
         starts as a multiple of A^T, so every Y is symmetric, and Z = theta A^T P with P the product of the steps'
         polynomials in E. Only Y goes on as a matrix. The polynomials are applied to the few columns that are wanted.
         Y goes on from Y, not from a new product with A, so float32 rounds a few times more than in the official code.

Shapes: M matrices, g landmarks, c columns, K steps.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Steps(NamedTuple):
    """What the gradient of `applied` needs.

    Attributes
    ----------
    powers : [K, 2, M, g, g], E and E^2 of each step. E^2 of the last one is not computed.
    columns : [K + 1, 3, M, g, c]: columns T before each step, and the two sums inside its polynomial. T of the end is last.
    """

    powers: Tensor
    columns: Tensor


def applied(y: Tensor, columns: Tensor, iterations: int) -> Steps:
    """Steps that lead from T = `columns` [M, g, c] to P T, where P belongs to the first A Z, `y` [M, g, g]."""
    eye = torch.eye(y.shape[-1], dtype=y.dtype, device=y.device)
    powers, kept = y.new_empty(max(1, iterations), 2, *y.shape), columns.new_empty(iterations + 1, 3, *columns.shape)
    kept[0, 0], powers[0, 0] = columns, eye - y
    for step in range(iterations):
        e, squared = powers[step]
        t, inner, outer = kept[step]
        torch.sub(eye, y, out=e)
        torch.baddbmm(t, e, t, alpha=0.25, out=inner)                     # T + E T / 4
        torch.baddbmm(t, e, inner, out=outer)                             # T + E T + E^2 T / 4
        torch.baddbmm(t, e, outer, out=kept[step + 1, 0])                 # T + E T + E^2 T + E^3 T / 4
        if step < iterations - 1:
            u = y - torch.bmm(y, y)                                       # Y E
            torch.sub(e, u, out=squared)                                  # E^2
            y = torch.baddbmm(y + u, u, (1.25 * e).sub_(u, alpha=0.25))   # Y (I + E + E^2 + E^3 / 4)
    return Steps(powers, kept)


def applied_backward(steps: Steps, of_columns: Tensor) -> tuple[Tensor, Tensor]:
    """Gradients with respect to the first E, symmetric [M, g, g], and to the first T [M, g, c], from that of the last T."""
    of_t, of_e = of_columns, None
    for step in reversed(range(len(steps.columns) - 1)):
        (e, squared), (t, inner, outer) = steps.powers[step], steps.columns[step]
        once = torch.bmm(e, of_t)
        twice = torch.bmm(e, once)
        found = torch.bmm(of_t, outer.mT)
        found = torch.baddbmm(found, once, inner.mT, out=found)
        found = torch.baddbmm(found, twice, t.mT, alpha=0.25, out=found)
        of_t = torch.baddbmm(of_t + once, e, twice, alpha=0.25).add_(twice)
        if of_e is not None:
            of_square = torch.bmm(of_e, squared)
            both = torch.bmm(of_e, e).mul_(0.75).add_(of_square, alpha=0.5)
            found = torch.baddbmm(found, both + both.mT, e, out=found).add_(of_square, alpha=0.75)
        of_e = (found + found.mT).mul_(0.5)
    return torch.zeros_like(steps.powers[0, 0]) if of_e is None else of_e, of_t
