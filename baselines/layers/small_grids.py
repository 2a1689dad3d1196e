"""MP-AMIL experts on small bags, from patches to slide feature, as one function of all experts and all bags.

A bag of a few dozen patches costs less to compute than to start: `MPAMIL.of_all` enters about fifty operations, twice each
inside vmap. Here they work on plain tensors, experts first, and the gradient is written out. Convolutions are matrices
between cells. All is equal to `MPAMIL.of_all` up to rounding.

Shapes: S stacked models of E experts, Q = S E; B bags of N patches [N, D] on grids of c = k k cells; H channels, four
quarters of C; attention width A.
"""

from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import hardswish, pad

from milbench_baselines.layers.depthwise import CELLS_OF_A_MATRIX
from milbench_baselines.layers.precision import without_autocast

LARGEST = 7
"""Size of the largest kernel of the branches."""


class Sizes(NamedTuple):
    """Side k of the grid, epsilon of the LayerNorm, factors of entries that dropout lets pass, in embedding and attention."""

    side: int
    eps: float
    factor: float
    attention_factor: float


class GridParameters(NamedTuple):
    """Parameters of E experts; each tensor is a stack [E, ...] of those of `MPAMIL`."""

    embed: Tensor
    embed_bias: Tensor
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
    tanh: Tensor
    tanh_bias: Tensor
    sigmoid: Tensor
    sigmoid_bias: Tensor
    score: Tensor
    score_bias: Tensor


def is_small_grid(features: Tensor, side: int) -> bool:
    """Whether bags like `features` [N, D] go through `small_grids`: on a CPU, in their own precision, with few cells."""
    if features.device.type != "cpu" or torch.is_autocast_enabled("cpu") or torch.compiler.is_compiling():
        return False
    return side**2 <= CELLS_OF_A_MATRIX and features.dtype in (torch.float32, torch.float64)


def small_grids(
    features: Tensor, mask: Tensor | None, attention_mask: Tensor | None, parameters: GridParameters, sizes: Sizes
) -> tuple[Tensor, Tensor]:
    """Slide features [E, H] and scores [E, c] of patches [N, D].

    `mask` [N, E, H] and `attention_mask` [E, c, A] are the factors of dropout; None = none.
    """
    slides, scores, *_ = _Grids.apply(sizes, features, mask, attention_mask, *parameters)  # type: ignore[no-untyped-call]
    return slides, scores


class _Kept(NamedTuple):
    """What the backward needs; names as in `_forward`."""

    h: Tensor
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
    r: Tensor
    tanh: Tensor
    gate: Tensor
    attention: Tensor


def _forward(
    sizes: Sizes, x: Tensor, mask: Tensor | None, attention_mask: Tensor | None, p: GridParameters
) -> tuple[Tensor, Tensor, _Kept]:
    """Slide features [Q, B, H] and scores [Q, B, c] of bags `x` [1 or S, B, N, D], masks [.., B, N, E, H], [.., B, E, c, A]."""
    n_bags, n, q, width = x.shape[1], x.shape[2], len(p.embed), p.embed.shape[1]
    quarter, cells = width // 4, sizes.side**2
    h = torch.baddbmm(p.embed_bias[:, None], _for_each_expert(x, q), p.embed.mT).relu_().view(q, n_bags, n, width)
    if mask is not None:
        h.view(len(mask), -1, *h.shape[1:]).mul_(mask.permute(0, 3, 1, 2, 4))
    if cells > n:
        h = torch.cat([h, h[:, :, : cells - n]], dim=2)                                     # copies share the mask
    channels = _channels_first(h)                                                           # [Q H, B, c]
    to_place = _matrices(p.position.flatten(0, 1).flatten(1), sizes.side)
    to_place.diagonal(dim1=1, dim2=2).add_(1)                                               # h + its convolution
    placed = torch.baddbmm(p.position_bias.reshape(-1, 1, 1), channels, to_place)
    placed = _channels_last(placed, width).contiguous()                                     # [Q, B, c, H]
    normal, mean, scale = torch.native_layer_norm(placed, (width,), None, None, sizes.eps)
    u = torch.addcmul(p.norm_bias[:, None, None], normal, p.norm[:, None, None])
    others = _channels_first(u[..., quarter:])                                              # [Q 3 C, B, c]
    matrices = _matrices(_side_by_side(p), sizes.side)
    convolved = torch.bmm(others, matrices)
    mixed = torch.bmm(_mixes(p), convolved.view(-1, quarter, n_bags * cells))               # [Q 3, C, B c]
    before = torch.empty_like(u)
    before[..., :quarter] = u[..., :quarter]
    before[..., quarter:] = _channels_last(mixed.view(-1, n_bags, cells), width - quarter)
    r = hardswish(before).add_(placed)                                                      # [Q, B, c, H]
    branches, biases = torch.cat([p.tanh, p.sigmoid], dim=1), torch.cat([p.tanh_bias, p.sigmoid_bias], dim=1)
    tanh, gate = torch.baddbmm(biases[:, None], r.view(q, -1, width), branches.mT).chunk(2, dim=-1)
    tanh, gate = tanh.tanh(), gate.sigmoid()                                                # [Q, B c, A]
    if attention_mask is not None:
        own = gate.view(len(attention_mask), -1, n_bags, cells, gate.shape[-1])
        own.mul_(attention_mask.transpose(1, 2))
    scores = torch.baddbmm(p.score_bias[:, None], tanh * gate, p.score.mT).view(q, n_bags, cells)
    attention = scores.softmax(dim=-1)
    slides = torch.bmm(attention.view(-1, 1, cells), r.view(-1, cells, width)).view(q, n_bags, width)
    kept = _Kept(
        h, channels, to_place, placed, mean, scale, normal, others, matrices, convolved, before, r, tanh, gate, attention
    )
    return slides, scores, kept


def _backward(
    sizes: Sizes, of_slides: Tensor, of_scores: Tensor | None, x: Tensor, p: GridParameters, kept: _Kept, *, wants_x: bool
) -> tuple[Tensor | None, GridParameters]:
    """Gradients of the bags [1 or S, B, N, D] and of the parameters, from those of slide features and scores."""
    n_bags, n, q, width = x.shape[1], x.shape[2], len(p.embed), p.embed.shape[1]
    quarter, cells, a = width // 4, sizes.side**2, kept.tanh.shape[-1]
    flat_r, of_slides = kept.r.view(-1, cells, width), of_slides.reshape(-1, 1, width)
    attention = kept.attention.view(-1, 1, cells)
    of_logits = torch._softmax_backward_data(torch.bmm(of_slides, flat_r.mT), attention, -1, attention.dtype)
    of_logits = of_logits.view(q, n_bags * cells, 1)
    if of_scores is not None:
        of_logits = of_logits + of_scores.reshape(of_logits.shape)
    product = kept.tanh * kept.gate
    of_product = of_logits * p.score                                                        # [Q, B c, A]
    of_branches = product.new_empty(*product.shape[:2], 2 * a)
    of_branches[..., :a] = torch.ops.aten.tanh_backward(of_product * kept.gate, kept.tanh)
    of_product *= product
    of_branches[..., a:] = torch.addcmul(of_product, of_product, kept.gate, value=-1 / sizes.attention_factor)
    branches = torch.cat([p.tanh, p.sigmoid], dim=1)
    of_r = torch.bmm(attention.mT, of_slides).view(q, -1, width).baddbmm_(of_branches, branches)
    of_weights, of_biases = torch.bmm(of_branches.mT, kept.r.view(q, -1, width)), of_branches.sum(dim=1)
    of_r = of_r.view(kept.r.shape)
    of_u = torch.ops.aten.hardswish_backward(of_r, kept.before)
    of_mixed = _channels_first(of_u[..., quarter:]).view(-1, quarter, n_bags * cells)
    of_mixes = torch.bmm(of_mixed, kept.convolved.view(of_mixed.shape).mT).view(q, 3, quarter, quarter)
    of_convolved = torch.bmm(_mixes(p).mT, of_mixed).view(kept.convolved.shape)
    of_kernels = _of_kernels(torch.bmm(kept.others.mT, of_convolved), sizes.side, LARGEST).view(q, 3, quarter, 1, 7, 7)
    of_others = torch.bmm(of_convolved, kept.matrices.mT)
    of_u[..., quarter:] = _channels_last(of_others, width - quarter)
    of_norm, of_norm_bias = (of_u * kept.normal).sum(dim=(1, 2)), of_u.sum(dim=(1, 2))
    of_u *= p.norm[:, None, None]
    of_r += torch.ops.aten.native_layer_norm_backward(
        of_u, kept.placed, (width,), kept.mean, kept.scale, None, None, [True, False, False]
    )[0]
    of_placed = _channels_first(of_r)
    of_position = _of_kernels(torch.bmm(kept.channels.mT, of_placed), sizes.side, p.position.shape[-1])
    of_h = _channels_last(torch.bmm(of_placed, kept.to_place.mT), width).contiguous()       # [Q, B, c, H]
    if cells > n:
        of_h[:, :, : cells - n] += of_h[:, :, n:]
    # above zero, ReLU and mask have let a number pass
    of_z = torch.ops.aten.threshold_backward(of_h[:, :, :n], kept.h[:, :, :n], 0).reshape(q, -1, width)
    if sizes.factor != 1:
        of_z.mul_(sizes.factor)
    of_x = torch.bmm(of_z, p.embed).view(len(x), -1, *x.shape[1:]).sum(dim=1) if wants_x else None
    return of_x, GridParameters(
        torch.bmm(of_z.mT, _for_each_expert(x, q)), of_z.sum(dim=1), of_position, of_r.sum(dim=(1, 2)),
        of_norm, of_norm_bias, of_kernels[:, 0, ..., 2:5, 2:5], of_kernels[:, 1, ..., 1:6, 1:6], of_kernels[:, 2],
        *of_mixes.unbind(1), of_weights[:, :a], of_biases[:, :a], of_weights[:, a:], of_biases[:, a:],
        torch.bmm(of_logits.mT, product), of_logits.sum(dim=1),
    )  # fmt: skip


def _for_each_expert(x: Tensor, q: int) -> Tensor:
    """Rows [Q, B N, D] of bags [1 or S, B, N, D]; a view if S = 1."""
    n_sets = len(x)
    return x.reshape(n_sets, 1, -1, x.shape[-1]).expand(-1, q // n_sets, -1, -1).reshape(q, -1, x.shape[-1])


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


def _matrices(kernels: Tensor, side: int) -> Tensor:
    """Matrices [K, c, c] from input to output cells that convolve a grid with kernels [K, s s]."""
    cells = side**2
    return pad(kernels, (0, 1)).index_select(1, _entries(side, kernels.shape[1])).view(-1, cells, cells)


def _of_kernels(of_matrices: Tensor, side: int, size: int) -> Tensor:
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
    return entry.masked_fill(~(inside[:, None, :, None] & inside[None, :, None, :]), n_entries).flatten()


@cache
def _reads(side: int, n_entries: int, dtype: torch.dtype) -> Tensor:
    """Reads [c c, s s]: 1 where an output cell reads an input cell through that entry of the kernel, else 0."""
    return (_entries(side, n_entries)[:, None] == torch.arange(n_entries)).to(dtype)


# ---- as a function of autograd and vmap ----------------------------------------------------------


class _Grids(torch.autograd.Function):
    """Slide features [*S, *B, E, H] and scores of bags [*S, *B, N, D], with parameters [*S, *1, E, ...] as in `side_by_side`.

    What the backward needs has no dimensions of vmap: it is used by the backward of all bags together.
    """

    @staticmethod
    def forward(
        sizes: Sizes, x: Tensor, mask: Tensor | None, attention_mask: Tensor | None, *parameters: Tensor
    ) -> tuple[Tensor, ...]:
        p, n_sets = _flat(parameters)
        bags, lead = x.reshape(n_sets, -1, *x.shape[-2:]), x.shape[:-2]
        if n_sets > 1 and mask is not None:
            mask = mask.expand(*lead, *mask.shape[-3:])
        masks = (None if m is None else m.reshape(n_sets, -1, *m.shape[-3:]) for m in (mask, attention_mask))
        with without_autocast(x.device):
            slides, scores, kept = _forward(sizes, bags, *masks, p)
        found = (torch.unflatten(each, 0, (n_sets, -1)).transpose(1, 2) for each in (slides, scores))
        return (*(each.reshape(*lead, *each.shape[2:]) for each in found), *kept)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        ctx.sizes, x, _, _, *parameters = inputs
        ctx.save_for_backward(x, *parameters, *output[2:])
        ctx.mark_non_differentiable(*output[2:])
        ctx.set_materialize_grads(False)

    @staticmethod
    def backward(ctx: Any, of_slides: Tensor | None, of_scores: Tensor | None, *_: None) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        x, *saved = ctx.saved_tensors
        if of_slides is None:
            if of_scores is None:
                return (None,) * (4 + len(GridParameters._fields))
            of_slides = of_scores.new_zeros(*of_scores.shape[:-1], saved[0].shape[-2])
        of_x, *others = _GridsBackward.apply(ctx.sizes, ctx.needs_input_grad[1], of_slides, of_scores, x, *saved)  # type: ignore[no-untyped-call]
        return None, of_x, None, None, *others

    @staticmethod
    def vmap(
        info: Any, in_dims: tuple[int | None, ...], sizes: Sizes, x: Tensor, mask: Tensor | None, attention_mask: Tensor | None,
        *parameters: Tensor,
    ) -> tuple[tuple[Tensor, ...], tuple[int | None, ...]]:  # fmt: skip
        x, *given = _in_front(info.batch_size, in_dims[1], in_dims[4:], x, parameters)
        masks = [
            None if m is None else _moved(m, dim, info.batch_size)
            for m, dim in ((mask, in_dims[2]), (attention_mask, in_dims[3]))
        ]
        found = _Grids.apply(sizes, x, *masks, *given)  # type: ignore[no-untyped-call]
        return found, (0, 0, *(None,) * len(_Kept._fields))


class _GridsBackward(torch.autograd.Function):
    """`_backward`. It is a function so that under vmap it computes with plain tensors too."""

    @staticmethod
    def forward(
        sizes: Sizes, wants_x: bool, of_slides: Tensor, of_scores: Tensor | None, x: Tensor, *saved: Tensor  # noqa: FBT001
    ) -> tuple[Tensor | None, ...]:
        n_parameters = len(GridParameters._fields)
        parameters, kept = saved[:n_parameters], _Kept(*saved[n_parameters:])
        p, n_sets = _flat(parameters)
        bags = x.reshape(n_sets, -1, *x.shape[-2:])
        of_slides, of_scores = (
            None if each is None else each.reshape(n_sets, -1, *each.shape[-2:]).transpose(1, 2) for each in (of_slides, of_scores)
        )  # type: ignore[assignment]
        with without_autocast(x.device):
            of_x, found = _backward(sizes, of_slides, of_scores, bags, p, kept, wants_x=wants_x)
        of_x = None if of_x is None else of_x.reshape(x.shape)
        return (of_x, *(each.reshape(like.shape) for each, like in zip(found, parameters, strict=True)))

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor | None, ...]) -> None:
        ctx.mark_non_differentiable(*(each for each in output if each is not None))

    @staticmethod
    def vmap(
        info: Any, in_dims: tuple[Any, ...], sizes: Sizes, wants_x: bool, of_slides: Tensor, of_scores: Tensor | None,  # noqa: FBT001
        x: Tensor, *saved: Tensor,
    ) -> tuple[tuple[Tensor | None, ...], tuple[int | None, ...]]:  # fmt: skip
        n_parameters, size = len(GridParameters._fields), info.batch_size
        x, *given = _in_front(size, in_dims[4], in_dims[5 : 5 + n_parameters], x, saved[:n_parameters])
        of_slides = _moved(of_slides, in_dims[2], size)
        of_scores = None if of_scores is None else _moved(of_scores, in_dims[3], size)
        found = _GridsBackward.apply(sizes, wants_x, of_slides, of_scores, x, *given, *saved[n_parameters:])  # type: ignore[no-untyped-call]
        return found, tuple(None if each is None else 0 for each in found)


def _flat(parameters: tuple[Tensor, ...]) -> tuple[GridParameters, int]:
    """Parameters [Q, ...] of parameters [*S, *1, E, ...], and S."""
    inner = len(parameters[0].shape) - 3
    flat = (each.flatten(0, inner) for each in parameters)
    return GridParameters(*flat), parameters[0].shape[:inner].numel()


def _in_front(
    size: int, dim: int | None, dims: tuple[int | None, ...], x: Tensor, parameters: tuple[Tensor, ...]
) -> list[Tensor]:
    """Bags with their new dimension in front, and parameters with one of this size, or of 1 where they do not differ."""
    own = any(each is not None for each in dims) or any(n != 1 for n in parameters[0].shape[:-3])
    moved = [_moved(each, dim, size if own else 1) for each, dim in zip(parameters, dims, strict=True)]
    return [_moved(x, dim, size), *moved]


def _moved(x: Tensor, dim: int | None, size: int) -> Tensor:
    return x.expand(size, *x.shape) if dim is None else x.movedim(dim, 0)
