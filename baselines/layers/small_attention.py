"""Pooling of small bags by gated attention, from patches to slide feature, as one function of all stacked models and all bags.

It is AMIL's without its head, and the first tier of DTFD-MIL with pseudo-bags for bags. All is equal to the modules up to rounding.

Channels come first, so that one product embeds for all models, and its gradient is one product too. Bags come last, because there
are fewer patches than bags where bags are parts of bags.

Shapes: S stacked models, B bags of N patches [N, D]; H channels; A the attention's width.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from milbench_baselines.layers.gated_attention import GatedAttention
from milbench_baselines.layers.products import by_transposed, times
from milbench_baselines.layers.row_blocks import differentiable_once
from milbench_baselines.layers.tanh import tanh_


class Stacked(NamedTuple):
    """Embedding [S, H, D] and [S, H] or None; attention branches [S, A, H] and [S, A]; score [S, 1, A] and [S, 1]."""

    embed: Tensor
    embed_bias: Tensor | None
    tanh: Tensor
    tanh_bias: Tensor
    sigmoid: Tensor
    sigmoid_bias: Tensor
    score: Tensor
    score_bias: Tensor


class Masks(NamedTuple):
    """Factors of dropout on embedding [B, N, H] and attention [B, N, A], which all models share; None = none."""

    embed: Tensor | None = None
    attention: Tensor | None = None


NO_MASKS = Masks()


def pooled_stack(
    x: Tensor, embed: Any, attention: GatedAttention, masks: Masks = NO_MASKS, factors: tuple[float, float] = (1.0, 1.0)
) -> Tensor:
    """Slide features [S, B, H] of bags `x` [B, N, D]. The bags get no gradient.

    Parameters
    ----------
    embed, attention : a Linear layer and what follows its ReLU, with stacked parameters.
    factors : of what dropout lets pass, in both masks.
    """
    layers = (embed, attention.tanh_branch, attention.sigmoid_branch, attention.score)
    parameters = (parameter for layer in layers for parameter in (layer.weight, layer.bias))
    given = factors, x.transpose(0, 1).contiguous(), *map(_bags_last, masks), *parameters
    # torch's `Function.apply` looks at the names of all arguments first
    return super(torch.autograd.Function, _Pooled).apply(*given)[0]  # type: ignore[misc, no-any-return, no-untyped-call]


class _Pooled(torch.autograd.Function):
    """Slide features [S, B, H], and what the backward needs: h [S, H, N B], both branches [S, A, N B], attention [S, N, B].

    Bags are [N, B, D], masks [H, N B] and [A, N B].
    """

    @staticmethod
    def forward(*inputs: Any) -> tuple[Tensor, ...]:
        _, x, mask, attention_mask, *parameters = inputs
        p = Stacked(*parameters)
        (n_models, width, _), (n, n_bags, d) = p.embed.shape, x.shape
        h = by_transposed(p.embed.view(-1, d), x.reshape(-1, d)).view(n_models, width, -1)           # [S, H, N B]
        if p.embed_bias is not None:
            h += p.embed_bias[..., None]
        h.relu_()
        if mask is not None:
            h *= mask
        both = torch.baddbmm(_side_by_side(p.tanh_bias, p.sigmoid_bias)[..., None], _side_by_side(p.tanh, p.sigmoid), h)
        tanh, gate = both.chunk(2, dim=1)
        tanh, gate = tanh_(tanh.contiguous()), gate.sigmoid()                                        # [S, A, N B]
        if attention_mask is not None:
            gate *= attention_mask
        scores = torch.baddbmm(p.score_bias[:, None], p.score, tanh * gate)                          # [S, 1, N B]
        attention = scores.view(n_models, n, n_bags).softmax(dim=1)
        slides = (h.view(n_models, width, n, n_bags) * attention[:, None]).sum(dim=2).mT
        return slides, h, tanh, gate, attention

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        ctx.factors, x, _, _, *parameters = inputs
        ctx.save_for_backward(x, *parameters, *output[1:])
        ctx.mark_non_differentiable(*output[1:])
        ctx.set_materialize_grads(False)

    @staticmethod
    @differentiable_once
    def backward(ctx: Any, of_slides: Tensor | None, *_: None) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        x, *parameters, h, tanh, gate, attention = ctx.saved_tensors
        if of_slides is None:
            return (None,) * (4 + len(parameters))
        p, (factor, attention_factor) = Stacked(*parameters), ctx.factors
        (n_models, width, _), a, by_bag = h.shape, tanh.shape[1], (*h.shape[:2], *x.shape[:2])
        of_slides = of_slides.mT.contiguous()[:, :, None]                                            # [S, H, 1, B]
        of_attention = (h.view(by_bag) * of_slides).sum(dim=1)                                       # [S, N, B]
        of_scores = torch._softmax_backward_data(of_attention, attention, 1, h.dtype).view(n_models, 1, -1)
        product = tanh * gate
        of_score = torch.bmm(of_scores, product.mT)
        of_product = of_scores * p.score.mT                                                          # [S, A, N B]
        of_both = h.new_empty(n_models, 2 * a, h.shape[-1])
        of_both[:, :a] = torch.ops.aten.tanh_backward(of_product * gate, tanh)
        of_product *= product
        of_both[:, a:] = torch.addcmul(of_product, of_product, gate, value=-1 / attention_factor)
        of_h = torch.mul(attention[:, None], of_slides, out=h.new_empty(by_bag)).view(h.shape)
        of_h.baddbmm_(_side_by_side(p.tanh, p.sigmoid).mT, of_both)
        # above zero, ReLU and mask have let a number pass
        torch.ops.aten.threshold_backward.grad_input(of_h, h, 0, grad_input=of_h)
        of_embed = times(of_h.view(n_models * width, -1), x.reshape(-1, x.shape[-1])).view(p.embed.shape).mul_(factor)
        of_weights, of_biases = torch.bmm(of_both, h.mT), of_both.sum(dim=-1)
        return (
            None, None, None, None, of_embed, None if p.embed_bias is None else of_h.sum(dim=-1).mul_(factor),
            of_weights[:, :a], of_biases[:, :a], of_weights[:, a:], of_biases[:, a:], of_score, of_scores.sum(dim=-1),
        )  # fmt: skip


def _side_by_side(tanh: Tensor, sigmoid: Tensor) -> Tensor:
    """Both branches' weights [S, 2 A, ...]."""
    return torch.cat([tanh, sigmoid], dim=1)


def _bags_last(mask: Tensor | None) -> Tensor | None:
    """Factors [H, N B] of factors [B, N, H]."""
    return None if mask is None else mask.transpose(0, 1).reshape(-1, mask.shape[-1]).T.contiguous()
