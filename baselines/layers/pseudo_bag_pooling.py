"""Tier 1 of DTFD-MIL from features to pooled pseudo-bags, a block of patches at a time.

With h_n = ReLU(W x_n), s_n = w . (tanh(V h_n) * sigmoid(U h_n)) and a_gn = softmax of s over pseudo-bag g, it computes
b_g = sum_n a_gn h_n. For the backward it keeps h, both branches and a. There, with the gradients B_g of b_g::

    ds_n = a_gn (h_n . B_g - b_g . B_g)                 (1) as b_g = sum_n a_gn h_n
    dh_n = a_gn B_g + V^T dv_n + U^T du_n               (2)

so that a block needs nothing of the others.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from milbench_baselines.layers.gated_attention import GatedAttention
from milbench_baselines.layers.products import add_outer, add_times, affine, times
from milbench_baselines.layers.row_blocks import blocks_of, differentiable_once


class PseudoBags(NamedTuple):
    """Results of tier 1.

    Attributes
    ----------
    pooled : Tensor [G, L], b_g.
    attention : Tensor [G, N]; row g sums to 1 over pseudo-bag g and is 0 elsewhere.
    h : Tensor [N, L], the embedded patches, without gradient.
    """

    pooled: Tensor
    attention: Tensor
    h: Tensor


def pooled_pseudo_bags(x: Tensor, member: Tensor, embedding: nn.Module, attention: GatedAttention) -> PseudoBags:
    """Pseudo-bags of features `x` [N, D] pooled by gated attention. Not inside vmap.

    Parameters
    ----------
    member : bool [G, N], in which pseudo-bag each patch is: in one of them.
    embedding : Linear, W [L, D] without bias.
    attention : without dropout.
    """
    v, u, score = attention.tanh_branch, attention.sigmoid_branch, attention.score
    pooled, shares, h, _ = _PooledPseudoBags.apply(  # type: ignore[no-untyped-call]
        torch.is_grad_enabled(), x, member, embedding.weight, v.weight, v.bias, u.weight, u.bias, score.weight, score.bias
    )
    return PseudoBags(pooled, shares, h)


def _attention(scores: Tensor, member: Tensor) -> Tensor:
    """Attention [G, N] of scores [N]."""
    return torch.where(member, scores, -torch.inf).softmax(dim=1)


class _PooledPseudoBags(torch.autograd.Function):
    """Pooled [G, L], attention [G, N], h [N, L] and both branches after their activation [2, N, A].

    The branches of all patches are kept if a backward may follow; else those of one block.
    """

    @staticmethod
    def forward(*inputs: Any) -> tuple[Tensor, Tensor, Tensor, Tensor]:  # torch looks at each named argument at every call
        keeps, x, member, embedding, v_weight, v_bias, u_weight, u_bias, score, score_bias = inputs
        n, blocks = len(x), blocks_of(len(x), width=len(embedding))
        h, scores = x.new_empty(n, len(embedding)), x.new_empty(n)
        gates = x.new_empty(2, n if keeps else blocks[0].stop, len(v_weight))
        for rows in blocks:
            own = affine(x[rows], embedding, out=h[rows]).clamp_(min=0)                             # [B, L]
            v, u = gates[:, rows] if keeps else gates[:, : len(own)]
            affine(own, v_weight, v_bias, out=v).tanh_()                                           # [B, A]
            affine(own, u_weight, u_bias, out=u).sigmoid_()                                        # [B, A]
            torch.mv(v * u, score[0], out=scores[rows])
        attention = _attention(scores.add_(score_bias), member)                                    # [G, N]
        return attention @ h, attention, h, gates

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        _, x, _, embedding, v_weight, _, u_weight, _, score, _ = inputs
        ctx.save_for_backward(x, embedding, v_weight, u_weight, score, *output)
        ctx.mark_non_differentiable(output[2], output[3])
        ctx.set_materialize_grads(False)

    @staticmethod
    @differentiable_once
    def backward(  # type: ignore[override]
        ctx: Any, of_pooled: Tensor | None, of_attention: Tensor | None, *_: None
    ) -> tuple[Tensor | None, ...]:
        x, embedding, v_weight, u_weight, score, pooled, attention, h, gates = ctx.saved_tensors
        of_pooled = torch.zeros_like(pooled) if of_pooled is None else of_pooled
        mean = (pooled * of_pooled).sum(dim=1)                                                     # [G]  (1)
        if of_attention is not None:
            mean = mean + (attention * of_attention).sum(dim=1)
        of_x = torch.empty_like(x) if ctx.needs_input_grad[1] else None
        sums = [torch.empty_like(each) for each in (embedding, v_weight, u_weight)]
        of_v_bias, of_u_bias, of_score, of_score_bias = (x.new_zeros(n) for n in (*gates.shape[2:] * 3, 1))
        for rows in blocks_of(len(x), width=len(embedding)):
            own, (v, u), a = h[rows], gates[:, rows], attention[:, rows]                           # [B, L], [B, A], [G, B]
            wanted = of_pooled @ own.T                                                             # [G, B]
            if of_attention is not None:
                wanted = wanted + of_attention[:, rows]
            of_s = (a * (wanted - mean[:, None])).sum(dim=0)                                       # [B]  (1)
            of_score += of_s @ (v * u)
            of_score_bias += of_s.sum()
            of_gate = of_s[:, None] * score                                                        # [B, A]
            of_v = torch.ops.aten.tanh_backward(of_gate * u, v)  # type: ignore[attr-defined]
            of_u = torch.ops.aten.sigmoid_backward(of_gate.mul_(v), u)  # type: ignore[attr-defined]
            of_v_bias += of_v.sum(dim=0)
            of_u_bias += of_u.sum(dim=0)
            of_h = add_times(add_times(a.T @ of_pooled, of_v, v_weight), of_u, u_weight)           # [B, L]  (2)
            of_h = torch.ops.aten.threshold_backward(of_h, own, 0)  # type: ignore[attr-defined]
            for sum_, left, right in zip(sums, (of_h, of_v, of_u), (x[rows], own, own), strict=True):
                add_outer(sum_, left, right, is_first=rows.start == 0)
            if of_x is not None:
                times(of_h, embedding, out=of_x[rows])
        of_embedding, of_v_weight, of_u_weight = sums
        return (
            None, of_x, None, of_embedding,
            of_v_weight, of_v_bias, of_u_weight, of_u_bias, of_score[None], of_score_bias,
        )  # fmt: skip
