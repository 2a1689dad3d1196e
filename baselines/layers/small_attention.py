"""Pooling of small bags by gated attention, from patches to slide feature, as one function of all stacked models and all bags.

It is AMIL's without its head, and the first tier of DTFD-MIL with pseudo-bags for bags. All is equal to the modules up to rounding.

Shapes: S stacked models, B bags of N patches [N, D]; H channels; A the attention's width.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from milbench_baselines.layers.gated_attention import GatedAttention
from milbench_baselines.layers.row_blocks import differentiable_once


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
    given = factors, x, *masks, *(parameter for layer in layers for parameter in (layer.weight, layer.bias))
    # torch's `Function.apply` looks at the names of all arguments first
    return super(torch.autograd.Function, _Pooled).apply(*given)[0]  # type: ignore[misc, no-any-return, no-untyped-call]


class _Pooled(torch.autograd.Function):
    """Slide features [S, B, H], and what the backward needs: h [S, B N, H], both branches [S, B N, A], attention [S, B, N]."""

    @staticmethod
    def forward(*inputs: Any) -> tuple[Tensor, ...]:
        _, x, mask, attention_mask, *parameters = inputs
        p = Stacked(*parameters)
        n_models, (n_bags, n, _) = len(p.embed), x.shape
        h = _linear(_for_each(x, n_models), p.embed, p.embed_bias).relu_()                           # [S, B N, H]
        if mask is not None:
            h.view(n_models, *mask.shape).mul_(mask)
        tanh = _linear(h, p.tanh, p.tanh_bias).tanh_()                                               # [S, B N, A]
        gate = _linear(h, p.sigmoid, p.sigmoid_bias).sigmoid_()
        if attention_mask is not None:
            gate.view(n_models, *attention_mask.shape).mul_(attention_mask)
        # of one row by a matrix, not of a matrix by one column, which takes three times as long
        scores = torch.baddbmm(p.score_bias[:, None], p.score, (tanh * gate).mT)                     # [S, 1, B N]
        attention = scores.view(n_models, n_bags, n).softmax(dim=-1)
        slides = torch.bmm(attention.view(-1, 1, n), h.view(-1, n, h.shape[-1]))
        return slides.view(n_models, n_bags, -1), h, tanh, gate, attention

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
        n_models, n, width = len(h), x.shape[1], h.shape[-1]
        of_slides, rows = of_slides.reshape(-1, 1, width), attention.view(-1, 1, n)
        of_attention = torch.bmm(of_slides, h.view(-1, n, width).mT)                                 # [S B, 1, N]
        of_scores = torch._softmax_backward_data(of_attention, rows, 2, rows.dtype).view(n_models, -1, 1)
        product = tanh * gate
        of_score = torch.bmm(of_scores.mT, product)
        of_product = of_scores * p.score                                                             # [S, B N, A]
        of_tanh = torch.ops.aten.tanh_backward(of_product * gate, tanh)
        of_product *= product
        of_gate = torch.addcmul(of_product, of_product, gate, value=-1 / attention_factor)
        of_h = (rows.mT * of_slides).view(h.shape).baddbmm_(of_tanh, p.tanh).baddbmm_(of_gate, p.sigmoid)
        # above zero, ReLU and mask have let a number pass
        torch.ops.aten.threshold_backward.grad_input(of_h, h, 0, grad_input=of_h)
        of_embed = torch.bmm(of_h.mT, _for_each(x, n_models)).mul_(factor)
        return (
            None, None, None, None, of_embed, None if p.embed_bias is None else of_h.sum(dim=1).mul_(factor),
            torch.bmm(of_tanh.mT, h), of_tanh.sum(dim=1), torch.bmm(of_gate.mT, h), of_gate.sum(dim=1),
            of_score, of_scores.sum(dim=1),
        )  # fmt: skip


def _linear(rows: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Rows [S, R, O] of rows [S, R, I] in S stacked layers."""
    return torch.bmm(rows, weight.mT) if bias is None else torch.baddbmm(bias[:, None], rows, weight.mT)


def _for_each(x: Tensor, n_models: int) -> Tensor:
    """Rows [S, B N, D] of bags [B, N, D], in the memory of the bags."""
    return x.reshape(-1, x.shape[-1]).expand(n_models, -1, -1)
