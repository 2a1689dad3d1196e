"""MP-AMIL's grid on small bags, between embedding and attention, and its gradients: convolutions as matrices between cells.

Shapes: Q experts of all stacked models, B bags of N patches on grids of c = k k cells; H channels, four quarters of C.
"""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import hardswish, pad

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

    channels: Tensor
    to_place: Tensor
    placed: Tensor
    mean: Tensor
    scale: Tensor
    normal: Tensor
    others: Tensor
    matrices: Tensor
    convolved: Tensor
    before: Tensor


def through_grid(h: Tensor, p: GridParameters, side: int, eps: float) -> tuple[Tensor, KeptGrid]:
    """Rows [Q, B, c, H] that the attention pools, of embedded patches `h` [Q, B, N, H]."""
    n_bags, n, width = h.shape[1:]
    quarter, cells = width // 4, side**2
    if cells > n:
        h = torch.cat([h, h[:, :, : cells - n]], dim=2)                                     # copies share the mask
    channels = _channels_first(h)                                                           # [Q H, B, c]
    to_place = matrices_of(p.position.flatten(0, 1).flatten(1), side)
    to_place.diagonal(dim1=1, dim2=2).add_(1)                                               # h + its convolution
    placed = torch.baddbmm(p.position_bias.reshape(-1, 1, 1), channels, to_place)
    placed = _channels_last(placed, width).contiguous()                                     # [Q, B, c, H]
    normal, mean, scale = torch.native_layer_norm(placed, (width,), None, None, eps)
    u = torch.addcmul(p.norm_bias[:, None, None], normal, p.norm[:, None, None])
    others = _channels_first(u[..., quarter:])                                              # [Q 3 C, B, c]
    matrices = matrices_of(_side_by_side(p), side)
    convolved = torch.bmm(others, matrices)
    mixed = torch.bmm(_mixes(p), convolved.view(-1, quarter, n_bags * cells))               # [Q 3, C, B c]
    before = torch.empty_like(u)
    before[..., :quarter] = u[..., :quarter]
    before[..., quarter:] = _channels_last(mixed.view(-1, n_bags, cells), width - quarter)
    r = hardswish(before).add_(placed)
    return r, KeptGrid(channels, to_place, placed, mean, scale, normal, others, matrices, convolved, before)


def through_grid_backward(
    of_r: Tensor, p: GridParameters, side: int, kept: KeptGrid, n: int
) -> tuple[Tensor, GridParameters]:
    """Gradients of the N = `n` embedded patches [Q, B, N, H] and of the parameters, from that of the rows; `of_r` is overwritten."""
    q, n_bags, cells, width = of_r.shape
    quarter = width // 4
    of_u = torch.ops.aten.hardswish_backward(of_r, kept.before)
    of_mixed = _channels_first(of_u[..., quarter:]).view(-1, quarter, n_bags * cells)
    of_mixes = torch.bmm(of_mixed, kept.convolved.view(of_mixed.shape).mT).view(q, 3, quarter, quarter)
    of_convolved = torch.bmm(_mixes(p).mT, of_mixed).view(kept.convolved.shape)
    of_kernels = kernels_of(torch.bmm(kept.others.mT, of_convolved), side, LARGEST).view(q, 3, quarter, 1, LARGEST, LARGEST)
    of_u[..., quarter:] = _channels_last(torch.bmm(of_convolved, kept.matrices.mT), width - quarter)
    of_norm, of_norm_bias = (of_u * kept.normal).sum(dim=(1, 2)), of_u.sum(dim=(1, 2))
    of_u *= p.norm[:, None, None]
    of_r += torch.ops.aten.native_layer_norm_backward(
        of_u, kept.placed, (width,), kept.mean, kept.scale, None, None, [True, False, False]
    )[0]
    of_placed = _channels_first(of_r)
    of_position = kernels_of(torch.bmm(kept.channels.mT, of_placed), side, p.position.shape[-1])
    of_h = _channels_last(torch.bmm(of_placed, kept.to_place.mT), width).contiguous()       # [Q, B, c, H]
    if cells > n:
        of_h[:, :, : cells - n] += of_h[:, :, n:]
    return of_h[:, :, :n], GridParameters(
        of_position, of_r.sum(dim=(1, 2)), of_norm, of_norm_bias,
        of_kernels[:, 0, ..., 2:5, 2:5], of_kernels[:, 1, ..., 1:6, 1:6], of_kernels[:, 2], *of_mixes.unbind(1),
    )  # fmt: skip


def _channels_first(rows: Tensor) -> Tensor:
    """Planes [Q C, B, c] of rows [Q, B, c, C]."""
    return rows.permute(0, 3, 1, 2).reshape(-1, *rows.shape[1:3])


def _channels_last(planes: Tensor, channels: int) -> Tensor:
    """Rows [Q, B, c, C] of planes [Q C, B, c]."""
    return torch.unflatten(planes, 0, (-1, channels)).permute(0, 2, 3, 1)


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
    return of_matrices.flatten(1) @ _reads(side, size**2, of_matrices.dtype)


@cache
def _entries(side: int, n_entries: int) -> Tensor:
    """Entry [c c] of a kernel [s s] through which each output cell reads each input cell, input first; s s = none."""
    size = round(n_entries**0.5)
    places = torch.arange(side)
    ahead = places[:, None] - places + size // 2                                            # [in, out]
    inside = (ahead >= 0) & (ahead < size)
    entry = ahead[:, None, :, None] * size + ahead[None, :, None, :]                        # [in, in, out, out]
    reads = inside[:, None, :, None] & inside[None, :, None, :]
    return torch.where(reads, entry, n_entries).flatten()


@cache
def _reads(side: int, n_entries: int, dtype: torch.dtype) -> Tensor:
    """Reads [c c, s s]: 1 where an output cell reads an input cell through that entry of the kernel, else 0."""
    return (_entries(side, n_entries)[:, None] == torch.arange(n_entries)).to(dtype)
