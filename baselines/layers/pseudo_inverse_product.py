"""Products with the approximate Moore-Penrose inverse of square matrices, without the inverse: fewer matrix products.

paper    Razavi et al., "A new iterative method for finding approximate inverses of complex matrices", 2014, as used in
         Xiong et al., "Nyströmformer", AAAI 2021
code     nystrom-attention 0.0.14, `moore_penrose_iter_pinv`: Z <- Z (13 I - A Z (15 I - A Z (7 I - A Z))) / 4
differs  with Y = A Z and E = I - Y a step is Z <- Z (I + E + E^2 + E^3 / 4), and then Y <- Y (I + E + E^2 + E^3 / 4). Z
         starts as a multiple of A^T, so every Y is symmetric, and all polynomials in them commute. Only the first steps
         compute Z and a new Y = A Z. In the others only Y goes on as a matrix, and their polynomials are applied to the few
         columns that are wanted. More steps without a new Y would be faster, and round more in float32 than the official code

Shapes: M matrices, g landmarks, c columns, K steps, of which k compute Z.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from milbench_baselines.layers.products import baddbmm, bmm

WHOLE_STEPS = 2
"""Steps that compute Z. With two, float32 results are as near to those of float64 as with six, and with none up to four
times as far from them."""


class Steps(NamedTuple):
    """What the gradients need.

    Attributes
    ----------
    whole : [k + 1, 3, M, g, g]: Z, E, and E + E^2 + E^3 / 4 of each step that computes Z; the Z of the end is last.
    powers : [K - k, 2, M, g, g]: E and E^2 of each other step. E^2 of the last one is not computed.
    columns : [K - k + 1, 3, M, g, c]: columns T before each other step, and the two sums inside its polynomial. The T of the
        end is last.
    """

    whole: Tensor
    powers: Tensor
    columns: Tensor

    @property
    def z(self) -> Tensor:
        """Z [M, g, g] after the steps that compute it: the pseudo-inverse is Z P, where P turns the first T into the last."""
        return self.whole[-1, 0]

    @property
    def last(self) -> Tensor:
        """The last T [M, g, c]."""
        return self.columns[-1, 0]


def whole_steps(a: Tensor, theta: Tensor, iterations: int) -> Tensor:
    """Attribute `whole` of `Steps` for A [M, g, g] and the first Z, theta A^T, with theta [M, 1, 1]."""
    n_steps = min(WHOLE_STEPS, iterations)
    whole = a.new_empty(n_steps + 1, 3, *a.shape)
    torch.mul(a.mT, theta, out=whole[0, 0])
    for step in range(n_steps):
        z, e, polynomial = whole[step]
        _from_identity(bmm(a, z, out=e), out=e)
        square = bmm(e, e)
        torch.add(e, square, out=polynomial)
        baddbmm(polynomial, square, e, alpha=0.25, out=polynomial)
        baddbmm(z, z, polynomial, out=whole[step + 1, 0])
    return whole


def whole_steps_backward(whole: Tensor, a: Tensor, theta: Tensor, of_z: Tensor, of_y: Tensor) -> tuple[Tensor, Tensor]:
    """Gradients of A [M, g, g] and of log theta [M], from those of the last Z and of Y = A Z, which is symmetric."""
    of_a = bmm(of_y, whole[-1, 0].mT)
    of_z = baddbmm(of_z, a.mT, of_y)
    for z, e, polynomial in reversed(whole[:-1].unbind()):
        of_polynomial = _symmetric(bmm(z.mT, of_z))
        once = bmm(of_polynomial, e)
        through_powers = (once + once.mT).add_(once).add_(of_polynomial, alpha=8)          # a quarter of it, times E
        of_e = _symmetric(baddbmm(of_polynomial, through_powers, e, alpha=0.25, out=of_polynomial))
        of_z = baddbmm(of_z, of_z, polynomial.mT)
        baddbmm(of_z, a.mT, of_e, alpha=-1, out=of_z)
        baddbmm(of_a, of_e, z.mT, alpha=-1, out=of_a)
    of_log_theta = (of_z * whole[0, 0]).sum(dim=(1, 2))
    return of_a.add_(of_z.mT * theta), of_log_theta


def _from_identity(matrices: Tensor, *, out: Tensor) -> Tensor:
    """I - X in `out`, of X [M, g, g]."""
    torch.neg(matrices, out=out).diagonal(dim1=-2, dim2=-1).add_(1)
    return out


def _symmetric(matrices: Tensor) -> Tensor:
    return (matrices + matrices.mT).mul_(0.5)


def with_columns(whole: Tensor, a: Tensor, columns: Tensor, iterations: int) -> Steps:
    """All steps, with T = `columns` [M, g, c] before those that do not compute Z."""
    n_steps = iterations + 1 - len(whole)
    powers, kept = a.new_empty(n_steps, 2, *a.shape), columns.new_empty(n_steps + 1, 3, *columns.shape)
    kept[0, 0] = columns
    y = bmm(a, whole[-1, 0]) if n_steps else a
    for step in range(n_steps):
        e, squared = powers[step]
        t, inner, outer = kept[step]
        _from_identity(y, out=e)
        baddbmm(t, e, t, alpha=0.25, out=inner)                     # T + E T / 4
        baddbmm(t, e, inner, out=outer)                             # T + E T + E^2 T / 4
        baddbmm(t, e, outer, out=kept[step + 1, 0])                 # T + E T + E^2 T + E^3 T / 4
        if step < n_steps - 1:
            square = bmm(y, y)
            u = torch.sub(y, square, out=square)                    # Y E
            torch.sub(e, u, out=squared)                            # E^2
            y = y + u
            baddbmm(y, u, torch.add(e, squared, alpha=0.25), out=y)  # Y (I + E + E^2 + E^3 / 4)
    return Steps(whole, powers, kept)


def with_columns_backward(steps: Steps, of_columns: Tensor) -> tuple[Tensor, Tensor]:
    """Gradients of Y = A Z, symmetric [M, g, g], and of the first T [M, g, c], from that of the last T."""
    of_t, of_e = of_columns, None
    for step in reversed(range(len(steps.columns) - 1)):
        (e, squared), (t, inner, outer) = steps.powers[step], steps.columns[step]
        once = bmm(e, of_t)
        twice = bmm(e, once)
        found = bmm(of_t, outer.mT)
        found = baddbmm(found, once, inner.mT, out=found)
        found = baddbmm(found, twice, t.mT, alpha=0.25, out=found)
        of_t = of_t + once
        baddbmm(of_t, e, twice, alpha=0.25, out=of_t).add_(twice)
        if of_e is not None:
            of_square = bmm(of_e, squared)
            both = bmm(of_e, e).mul_(0.75).add_(of_square, alpha=0.5)
            found = baddbmm(found, both + both.mT, e, out=found).add_(of_square, alpha=0.75)
        of_e = _symmetric(found)
    return torch.zeros_like(steps.z) if of_e is None else of_e.neg_(), of_t
