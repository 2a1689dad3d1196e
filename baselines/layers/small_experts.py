"""Attention experts on small bags, from patches to slide feature, as one function of all experts and all bags.

A bag of a few dozen patches costs less to compute than to start: AMIL enters about twenty operations and MP-AMIL fifty,
twice each inside vmap. Here they work on plain tensors, experts first, and the gradient is written out. All is equal to
`AttentionExpert.of_all` and `MPAMIL.of_all` up to rounding.

Shapes: S stacked models of E experts, Q = S E; B bags of N patches [N, D]; c cells of a grid, or N; H channels; A the
attention's width.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from milbench_baselines.layers.below_vmap import applied, backward_of
from milbench_baselines.layers.embedding import Embedding
from milbench_baselines.layers.gated_attention import GatedAttention
from milbench_baselines.layers.precision import without_autocast
from milbench_baselines.layers.products import baddbmm, bmm
from milbench_baselines.layers.row_blocks import FEW, no_second_gradient
from milbench_baselines.layers.small_bags import WIDEST
from milbench_baselines.layers.small_grids import GridParameters, KeptGrid, through_grid, through_grid_backward
from milbench_baselines.layers.tanh import tanh_


class Sizes(NamedTuple):
    """Side k of the grid, 0 = none; epsilon of its LayerNorm; factors of what dropout lets pass, in embedding and attention."""

    side: int
    eps: float
    factor: float
    attention_factor: float


class PoolParameters(NamedTuple):
    """Embedding [E, H, D] and [E, H]; attention branches [E, A, H] and [E, A]; score [E, 1, A] and [E, 1]."""

    embed: Tensor
    embed_bias: Tensor
    tanh: Tensor
    tanh_bias: Tensor
    sigmoid: Tensor
    sigmoid_bias: Tensor
    score: Tensor
    score_bias: Tensor


N_POOL = len(PoolParameters._fields)


def is_small(features: Tensor, embed: Embedding, attention: GatedAttention) -> bool:
    """Whether bags like `features` [N, D] go through `small_experts`: few patches, on a CPU, in their own precision.

    `embed` and `attention` are those of any expert. They must be narrow and usual.
    """
    if torch.compiler.is_compiling() or features.shape[0] > FEW or attention.tanh_branch.in_features > WIDEST:
        return False
    if features.device.type != "cpu" or torch.is_autocast_enabled("cpu"):
        return False
    return features.dtype in (torch.float32, torch.float64) and embed.is_usual and attention.is_usual


def pooled_small(
    experts: Sequence[tuple[Any, GatedAttention]], features: Tensor, grid: GridParameters | None = None, side: int = 0, eps: float = 0.0
) -> tuple[Tensor, Tensor]:
    """Slide features [E, H] and scores [E, c] of E experts, each an embedding and an attention. Masks are drawn as modules draw them."""
    stacks = [torch.stack(each) for each in zip(*(_of_pool(*expert) for expert in experts), strict=True)]
    pool, (_, _, dropout), after = PoolParameters(*stacks), experts[0][0], experts[0][1].dropout
    mask = dropout.mask((len(features), *pool.embed_bias.shape), like=features) if dropout.draws else None
    shape = len(experts), side**2 or len(features), pool.tanh.shape[1]
    attention_mask = after.mask(shape, like=features) if after.draws else None
    sizes = Sizes(side, eps, dropout.factor, after.factor)
    return small_experts(features, mask, attention_mask, pool, grid, sizes)


def _of_pool(embed: Any, attention: GatedAttention) -> list[Tensor]:
    layers = (embed[0], attention.tanh_branch, attention.sigmoid_branch, attention.score)
    return [parameter for layer in layers for parameter in (layer.weight, layer.bias)]


def small_experts(
    features: Tensor,
    mask: Tensor | None,
    attention_mask: Tensor | None,
    pool: PoolParameters,
    grid: GridParameters | None,
    sizes: Sizes,
) -> tuple[Tensor, Tensor]:
    """Slide features [E, H] and scores [E, c] of patches [N, D].

    `mask` [N, E, H] and `attention_mask` [E, c, A] are the factors of dropout; None = none. `grid` are stacks [E, ...].
    """
    rows = (features, mask, attention_mask)
    slides, scores = applied(_Experts, (sizes,), rows, (*pool, *(grid or ())), n_outputs=2)
    return slides, scores


class _Kept(NamedTuple):
    """What the backward needs; names as in `_forward`."""

    h: Tensor
    r: Tensor
    tanh: Tensor
    gate: Tensor
    attention: Tensor


def _forward(
    sizes: Sizes, x: Tensor, mask: Tensor | None, attention_mask: Tensor | None, p: PoolParameters, grid: GridParameters | None
) -> tuple[Tensor, Tensor, tuple[Tensor, ...]]:
    """Slide features [Q, B, H] and scores [Q, B, c] of bags `x` [S, B, N, D], masks [.., B, N, E, H] and [.., B, E, c, A]."""
    n_bags, (q, width) = x.shape[1], p.embed_bias.shape
    h = _embedded(x, mask, p)                                                               # [Q, H, B, N]
    r, kept_grid = (h, ()) if grid is None else through_grid(h, grid, sizes.side, sizes.eps)     # [Q, H, B, c]
    cells = r.shape[-1]
    branches, biases = torch.cat([p.tanh, p.sigmoid], dim=1), torch.cat([p.tanh_bias, p.sigmoid_bias], dim=1)
    tanh, gate = torch.baddbmm(biases[:, None], r.view(q, width, -1).mT, branches.mT).chunk(2, dim=-1)
    tanh, gate = tanh_(tanh.contiguous()), gate.sigmoid()                                   # [Q, B c, A]
    if attention_mask is not None:
        own = gate.view(len(attention_mask), -1, n_bags, cells, gate.shape[-1])
        own.mul_(attention_mask.transpose(1, 2))
    scores = torch.baddbmm(p.score_bias[:, None], p.score, (tanh * gate).mT).view(q, n_bags, cells)
    attention = scores.softmax(dim=-1)
    slides = (r * attention[:, None]).sum(dim=-1).mT                                        # [Q, B, H]
    return slides, scores, (*_Kept(h, r, tanh, gate, attention), *kept_grid)


def _embedded(x: Tensor, mask: Tensor | None, p: PoolParameters) -> Tensor:
    """Embedded patches [Q, H, B, N] of bags `x` [S, B, N, D] and a mask [S, B, N, E, H]. All experts of a model share one product."""
    n_sets, n_bags, n, d = x.shape
    z = baddbmm(p.embed_bias.view(n_sets, -1, 1), p.embed.view(n_sets, -1, d), x.reshape(n_sets, -1, d).mT)  # [S, E H, B N]
    z.relu_()
    if mask is not None:
        for own, of_patches in zip(z, mask.reshape(n_sets, n_bags * n, -1), strict=True):
            own.mul_(of_patches.T.contiguous())  # torch lays out one matrix anew faster than it reads it across
    return z.view(*p.embed_bias.shape, n_bags, n)


def _backward(
    sizes: Sizes,
    gradients: Sequence[Any],
    x: Tensor,
    p: PoolParameters,
    grid: GridParameters | None,
    saved: tuple[Tensor, ...],
    *,
    wants_x: bool,
) -> tuple[Tensor | None, ...]:
    """Gradients of the bags [S, B, N, D] and of all parameters, from those of slide features [S, E, B, H] and scores."""
    of_slides, of_scores = gradients
    kept, kept_grid = _Kept(*saved[: len(_Kept._fields)]), saved[len(_Kept._fields) :]
    q, width, n_bags, _ = kept.r.shape
    n_sets, n, d, a = len(x), x.shape[2], x.shape[3], kept.tanh.shape[-1]
    of_slides = of_slides.reshape(q, n_bags, width).mT.contiguous()[..., None]              # [Q, H, B, 1]
    rows = kept.r.view(q, width, -1)                                                        # [Q, H, B c]
    of_attention = (kept.r * of_slides).sum(dim=1)
    of_logits = torch._softmax_backward_data(of_attention, kept.attention, -1, of_attention.dtype).view(q, -1, 1)
    if of_scores is not None:
        of_logits = of_logits + of_scores.reshape(of_logits.shape)
    product = kept.tanh * kept.gate
    of_product = of_logits * p.score                                                        # [Q, B c, A]
    of_branches = product.new_empty(*product.shape[:2], 2 * a)
    of_branches[..., :a] = torch.ops.aten.tanh_backward(of_product * kept.gate, kept.tanh)
    of_product *= product
    of_branches[..., a:] = torch.addcmul(of_product, of_product, kept.gate, value=-1 / sizes.attention_factor)
    of_r = torch.mul(kept.attention[:, None], of_slides, out=torch.empty_like(kept.r)).view(rows.shape)
    of_r = of_r.baddbmm_(torch.cat([p.tanh, p.sigmoid], dim=1).mT, of_branches.mT).view(kept.r.shape)
    of_weights, of_biases = torch.bmm(of_branches.mT, rows.mT), of_branches.sum(dim=1)
    of_h, of_grid = (of_r, ()) if grid is None else through_grid_backward(of_r, grid, sizes.side, KeptGrid(*kept_grid), n)
    # above zero, ReLU and mask have let a number pass
    of_z = torch.ops.aten.threshold_backward(of_h, kept.h, 0).view(n_sets, -1, n_bags * n)  # [S, E H, B N]
    if sizes.factor != 1:
        of_z.mul_(sizes.factor)
    of_x = torch.bmm(of_z.mT, p.embed.view(n_sets, -1, d)).view(x.shape) if wants_x else None
    return (
        of_x, bmm(of_z, x.reshape(n_sets, -1, d)), of_z.sum(dim=-1),
        of_weights[:, :a], of_biases[:, :a], of_weights[:, a:], of_biases[:, a:],
        torch.bmm(of_logits.mT, product), of_logits.sum(dim=1), *of_grid,
    )  # fmt: skip


# ---- as a function of autograd and vmap ----------------------------------------------------------


class _Experts(torch.autograd.Function):
    """Slide features [*S, *B, E, H] and scores of bags [*S, *B, N, D], with parameters [*S, *1, E, ...] as in `side_by_side`.

    What the backward needs has no dimensions of vmap: it is used by the backward of all bags together.
    """

    @staticmethod
    def forward(
        sizes: Sizes, x: Tensor, mask: Tensor | None, attention_mask: Tensor | None, *parameters: Tensor
    ) -> tuple[Tensor, ...]:
        pool, grid, n_sets = _flat(parameters)
        bags, lead = x.reshape(n_sets, -1, *x.shape[-2:]), x.shape[:-2]
        own = [None if m is None else m.reshape(n_sets, -1, *m.shape[-3:]) for m in (mask, attention_mask)]
        with without_autocast(x.device):
            slides, scores, kept = _forward(sizes, bags, own[0], own[1], pool, grid)
        found = (torch.unflatten(each, 0, (n_sets, -1)).transpose(1, 2) for each in (slides, scores))
        return (*(each.reshape(*lead, *each.shape[2:]) for each in found), *kept)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        ctx.sizes, *given = inputs
        ctx.n_parameters = len(given) - 3
        ctx.save_for_backward(*given, *output[2:])
        ctx.mark_non_differentiable(*output[2:])
        ctx.set_materialize_grads(False)

    @staticmethod
    def backward(ctx: Any, of_slides: Tensor | None, of_scores: Tensor | None, *_: None) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        saved, n_parameters = ctx.saved_tensors, ctx.n_parameters
        if of_slides is None:
            if of_scores is None:
                return tuple([None] * (4 + int(n_parameters)))
            of_slides = of_scores.new_zeros(*of_scores.shape[:-1], saved[3].shape[-2])
        wants_x = ctx.needs_input_grad[1]
        found: tuple[Tensor | None, ...] = backward_of(
            _ExpertsBackward, ctx.sizes, n_parameters, wants_x, of_slides, of_scores, *saved
        )
        return (None, found[0], None, None, *found[1:])

    @staticmethod
    def vmap(
        info: Any, in_dims: tuple[int | None, ...], sizes: Sizes, x: Tensor, mask: Tensor | None, attention_mask: Tensor | None,
        *parameters: Tensor,
    ) -> tuple[tuple[Tensor, ...], tuple[int | None, ...]]:  # fmt: skip
        size = info.batch_size
        given = _in_front(size, in_dims[4:], parameters)
        bags = [
            None if each is None else _moved(each, dim, size)
            for each, dim in zip((x, mask, attention_mask), in_dims[1:4], strict=True)
        ]
        found = _Experts.apply(sizes, *bags, *given)  # type: ignore[no-untyped-call]
        return found, (0, 0, *(None,) * (len(found) - 2))


class _ExpertsBackward(torch.autograd.Function):
    """`_backward`. It is a function so that under vmap it computes with plain tensors too."""

    @staticmethod
    def forward(*inputs: Any) -> tuple[Tensor | None, ...]:
        sizes, n_parameters, wants_x, of_slides, of_scores, x, _, _, *saved = inputs
        parameters, kept = tuple(saved[:n_parameters]), tuple(saved[n_parameters:])
        pool, grid, n_sets = _flat(parameters)
        bags = x.reshape(n_sets, -1, *x.shape[-2:])
        by_expert = [
            None if each is None else each.reshape(n_sets, -1, *each.shape[-2:]).transpose(1, 2)
            for each in (of_slides, of_scores)
        ]  # [S, E, B, ...]
        with without_autocast(x.device):
            found = _backward(sizes, by_expert, bags, pool, grid, kept, wants_x=wants_x)
        likes = (x, *parameters)
        return tuple(None if each is None else each.reshape(like.shape) for each, like in zip(found, likes, strict=True))

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor | None, ...]) -> None:
        """Nothing is kept."""

    backward = staticmethod(no_second_gradient)  # type: ignore[assignment]

    @staticmethod
    def vmap(
        info: Any, in_dims: tuple[Any, ...], sizes: Sizes, n_parameters: int, wants_x: bool, *tensors: Tensor | None  # noqa: FBT001
    ) -> tuple[tuple[Tensor | None, ...], tuple[int | None, ...]]:
        # each element has gradients of its own here, so its weights count as its own, and what they made is made again
        moved = [
            None if each is None else _moved(each, dim, info.batch_size)
            for each, dim in zip(tensors[: 5 + n_parameters], in_dims[3 : 8 + n_parameters], strict=True)
        ]
        kept = _Experts.apply(sizes, *moved[2:])[2:]  # type: ignore[no-untyped-call]
        found = _ExpertsBackward.apply(sizes, n_parameters, wants_x, *moved, *kept)  # type: ignore[no-untyped-call]
        return found, tuple(None if each is None else 0 for each in found)


def _flat(parameters: tuple[Tensor, ...]) -> tuple[PoolParameters, GridParameters | None, int]:
    """Parameters [Q, ...] of parameters [*S, *1, E, ...], and S."""
    inner = parameters[0].dim() - 3
    flat = [each.flatten(0, inner) for each in parameters]
    grid = GridParameters(*flat[N_POOL:]) if len(flat) > N_POOL else None
    return PoolParameters(*flat[:N_POOL]), grid, parameters[0].shape[:inner].numel()


def _in_front(size: int, dims: tuple[int | None, ...], parameters: tuple[Tensor, ...]) -> list[Tensor]:
    """Parameters with a new dimension of this size in front, or of 1 where they do not differ."""
    own = any(each is not None for each in dims) or any(n != 1 for n in parameters[0].shape[:-3])
    return [_moved(each, dim, size if own else 1) for each, dim in zip(parameters, dims, strict=True)]


def _moved(x: Tensor, dim: int | None, size: int) -> Tensor:
    return x.expand(size, *x.shape) if dim is None else x.movedim(dim, 0)
