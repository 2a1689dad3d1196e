"""MP-AMIL's grid on small bags, between embedding and attention, and its gradients: convolutions as matrices between cells.

Channels come before patches: a channel's grids then lie in memory as its matrix takes them, and nothing is laid out anew.

Shapes: Q experts of all stacked models, B bags of N patches on grids of c = k k cells; H channels, four quarters of C.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import hardswish, pad

from milbench_baselines.layers.constants import made_once
from milbench_baselines.layers.products import NARROWEST, by_transposed

LARGEST = 7
"""Size of the largest kernel of the branches."""


class GridParameters(NamedTuple):
    """Stacks [Q, ...] of the parameters of `MPAMIL` between embedding and attention; mixes are [Q, C, C]."""

    position: Tensor
    position_bias: Tensor
    norm: Tensor
    norm_bias: Tensor
    kernel3: Tensor
    kernel5: Tensor
    kernel7: Tensor
    mix3: Tensor
    mix5: Tensor
    mix7: Tensor


class KeptGrid(NamedTuple):
    """What the backward needs; names as in `through_grid`."""

    h: Tensor
    to_place: Tensor
    normal: Tensor
    scale: Tensor
    others: Tensor
    matrices: Tensor
    convolved: Tensor
    before: Tensor


def through_grid(h: Tensor, p: GridParameters, side: int, eps: float) -> tuple[Tensor, KeptGrid]:
    """Channels [Q, H, B, c] that the attention pools, of embedded patches `h` [Q, H, B, N]."""
    q, width, n_bags, n = h.shape
    quarter, cells = width // 4, side**2
    if cells > n:
        h = torch.cat([h, h[..., : cells - n]], dim=-1)                                     # copies share the mask
    to_place = matrices_of(p.position.flatten(0, 1).flatten(1), side)
    to_place.diagonal(dim1=1, dim2=2).add_(1)                                               # h + its convolution
    placed = torch.baddbmm(p.position_bias.reshape(-1, 1, 1), h.view(-1, n_bags, cells), to_place)
    placed = placed.view(q, width, -1)                                                      # [Q, H, B c]
    normal, scale = _normalised(placed, eps)
    u = torch.addcmul(p.norm_bias[..., None], normal, p.norm[..., None])
    others = u[:, quarter:].reshape(-1, n_bags, cells)                                      # [Q 3 C, B, c]
    matrices = matrices_of(_side_by_side(p), side)
    convolved = torch.bmm(others, matrices)
    mixed = torch.bmm(_mixes(p), convolved.view(-1, quarter, n_bags * cells))               # [Q 3, C, B c]
    before = torch.cat([u[:, :quarter], mixed.view(q, width - quarter, -1)], dim=1)
    r = hardswish(before).add_(placed)
    return r.view(h.shape), KeptGrid(h, to_place, normal, scale, others, matrices, convolved, before)


def through_grid_backward(
    of_r: Tensor, p: GridParameters, side: int, kept: KeptGrid, n: int
) -> tuple[Tensor, GridParameters]:
    """Gradients of the N = `n` embedded patches [Q, H, B, N] and of the parameters; that of the result, `of_r`, is overwritten."""
    q, width, n_bags, cells = of_r.shape
    quarter, of_placed = width // 4, of_r.view(q, width, -1)
    of_u = torch.ops.aten.hardswish_backward(of_placed, kept.before)
    of_mixed = of_u[:, quarter:].reshape(-1, quarter, n_bags * cells)
    of_mixes = torch.bmm(of_mixed, kept.convolved.view(of_mixed.shape).mT).view(q, 3, quarter, quarter)
    of_convolved = torch.bmm(_mixes(p).mT, of_mixed).view(kept.convolved.shape)
    of_kernels = kernels_of(torch.bmm(kept.others.mT, of_convolved), side, LARGEST).view(q, 3, quarter, 1, LARGEST, LARGEST)
    of_u[:, quarter:] = torch.bmm(of_convolved, kept.matrices.mT).view(q, width - quarter, -1)
    by_normal = of_u * kept.normal
    of_norm, of_norm_bias = by_normal.sum(dim=-1), of_u.sum(dim=-1)
    of_placed += _normalised_backward(of_u, by_normal, p.norm, kept)
    planes = of_placed.view(-1, n_bags, cells)
    of_position = kernels_of(torch.bmm(kept.h.view(planes.shape).mT, planes), side, p.position.shape[-1])
    of_h = torch.bmm(planes, kept.to_place.mT).view(of_r.shape)
    if cells > n:
        of_h[..., : cells - n] += of_h[..., n:]
        of_h = of_h[..., :n].contiguous()
    return of_h, GridParameters(
        of_position, of_placed.sum(dim=-1), of_norm, of_norm_bias,
        of_kernels[:, 0, ..., 2:5, 2:5], of_kernels[:, 1, ..., 1:6, 1:6], of_kernels[:, 2], *of_mixes.unbind(1),
    )  # fmt: skip


def _normalised(x: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """`x` [Q, H, M] with mean 0 and variance 1 over the channels, and what scaled it [Q, 1, M]."""
    centred = x - x.mean(dim=1, keepdim=True)
    scale = (centred * centred).mean(dim=1, keepdim=True).add_(eps).rsqrt_()
    return centred.mul_(scale), scale


def _normalised_backward(of_u: Tensor, by_normal: Tensor, weight: Tensor, kept: KeptGrid) -> Tensor:
    """Gradient [Q, H, M] of what was normalised, from that of u = weight * normal + bias, which is overwritten, and from its product
    with `normal`.

    It is that of `normal` without its mean over the channels and without its part along `normal`, scaled.
    """
    share = weight[:, None] / weight.shape[1]                                               # [Q, 1, H]
    mean, along = torch.bmm(share, of_u), torch.bmm(share, by_normal)                       # [Q, 1, M]
    return of_u.mul_(weight[..., None]).sub_(mean).addcmul_(kept.normal, along, value=-1).mul_(kept.scale)


def _side_by_side(p: GridParameters) -> Tensor:
    """Kernels [Q 3 C, 49] of the three branches, the smaller ones in a rim of zeros."""
    kernels = [pad(kernel, ((LARGEST - kernel.shape[-1]) // 2,) * 4) for kernel in (p.kernel3, p.kernel5, p.kernel7)]
    return torch.cat(kernels, dim=1).flatten(0, 1).flatten(1)


def _mixes(p: GridParameters) -> Tensor:
    """Pointwise weights [Q 3, C, C]."""
    return torch.stack([p.mix3, p.mix5, p.mix7], dim=1).reshape(-1, *p.mix3.shape[1:3])


def matrices_of(kernels: Tensor, side: int) -> Tensor:
    """Matrices [K, c, c] from input to output cells that convolve a grid with kernels [K, s s]."""
    cells = side**2
    return pad(kernels, (0, 1)).index_select(1, _entries(side, kernels.shape[1])).view(-1, cells, cells)


def kernels_of(of_matrices: Tensor, side: int, size: int) -> Tensor:
    """Gradient [K, s s] of the kernels from that of their matrices."""
    rows, reads = of_matrices.flatten(1), _reads(side, size**2, of_matrices.dtype)
    if size**2 < NARROWEST // 2:  # a few rows by a matrix take a third of the time of a matrix by a few columns
        return torch.mm(reads[: size**2], rows.T).T
    return by_transposed(rows, reads)[:, : size**2]


@made_once
def _entries(side: int, n_entries: int) -> Tensor:
    """Entry [c c] of a kernel [s s] through which each output cell reads each input cell, input first; s s = none."""
    size = round(n_entries**0.5)
    places = torch.arange(side)
    ahead = places[:, None] - places + size // 2                                            # [in, out]
    inside = (ahead >= 0) & (ahead < size)
    entry = ahead[:, None, :, None] * size + ahead[None, :, None, :]                        # [in, in, out, out]
    reads = inside[:, None, :, None] & inside[None, :, None, :]
    return torch.where(reads, entry, n_entries).flatten()


@made_once
def _reads(side: int, n_entries: int, dtype: torch.dtype) -> Tensor:
    """Reads [s s, c c]: 1 where an output cell reads an input cell through that entry of the kernel, else 0.

    There are rows of zeros behind them, so that oneDNN takes the matrix.
    """
    n_rows = max(n_entries, NARROWEST)
    return (torch.arange(n_rows)[:, None] == _entries(side, n_entries).where(_entries(side, n_entries) < n_entries, -1)).to(dtype)
