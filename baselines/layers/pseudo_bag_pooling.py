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

from milbench_baselines.layers.attention_pooling import Branches, Weights, gates_of
from milbench_baselines.layers.gated_attention import GatedAttention
from milbench_baselines.layers.products import (
    add_outer,
    add_outer_of_each,
    add_times,
    affine,
    sum_of_rows,
    times,
)
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
    """Pooled [G, L], attention [G, N], h [N, L] and memory [N, 2 A] of both branches after their activation (`gates_of`).

    The branches of all patches are kept if a backward may follow; else those of one block.
    """

    @staticmethod
    def forward(*inputs: Any) -> tuple[Tensor, Tensor, Tensor, Tensor]:  # torch looks at each named argument at every call
        keeps, x, member, embedding, v_weight, v_bias, u_weight, u_bias, score, score_bias = inputs
        n, blocks = len(x), blocks_of(len(x), width=len(embedding))
        h, scores = x.new_empty(n, len(embedding)), x.new_empty(n)
        branches = Branches(Weights(v_weight, v_bias, u_weight, u_bias, score, score_bias))
        memory = branches.memory(n if keeps else blocks[0].stop)
        for rows in blocks:
            own = affine(x[rows], embedding, out=h[rows]).clamp_(min=0)                             # [B, L]
            scores[rows] = branches.scores(gates_of(memory[rows] if keeps else memory[: len(own)]), own, None)
        attention = _attention(scores, member)                                                     # [G, N]
        return attention @ h, attention, h, memory

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
        x, embedding, v_weight, u_weight, score, pooled, attention, h, memory = ctx.saved_tensors
        of_pooled = torch.zeros_like(pooled) if of_pooled is None else of_pooled
        mean = (pooled * of_pooled).sum(dim=1)                                                     # [G]  (1)
        if of_attention is not None:
            mean = mean + (attention * of_attention).sum(dim=1)
        of_x = torch.empty_like(x) if ctx.needs_input_grad[1] else None
        of_embedding, of_weights = torch.empty_like(embedding), embedding.new_empty(2, *v_weight.shape)
        of_v_bias, of_u_bias, of_score, of_score_bias = (x.new_zeros(n) for n in (*[len(v_weight)] * 3, 1))
        for rows in blocks_of(len(x), width=len(embedding)):
            own, gates, a = h[rows], gates_of(memory[rows]), attention[:, rows]                    # [B, L], [2, B, A], [G, B]
            v, u = gates
            of_v, of_u = of_gates = torch.empty_like(gates)                                        # [2, B, A]
            wanted = of_pooled @ own.T                                                             # [G, B]
            if of_attention is not None:
                wanted = wanted + of_attention[:, rows]
            of_s = (a * (wanted - mean[:, None])).sum(dim=0)                                       # [B]  (1)
            of_score += of_s @ (v * u)
            of_score_bias += of_s.sum()
            of_gate = of_s[:, None] * score                                                        # [B, A]
            torch.ops.aten.tanh_backward.grad_input(torch.mul(of_gate, u, out=of_v), v, grad_input=of_v)
            torch.ops.aten.sigmoid_backward.grad_input(torch.mul(of_gate, v, out=of_u), u, grad_input=of_u)
            of_v_bias += sum_of_rows(of_v)
            of_u_bias += sum_of_rows(of_u)
            of_h = add_times(add_times(a.T @ of_pooled, of_v, v_weight), of_u, u_weight)           # [B, L]  (2)
            torch.ops.aten.threshold_backward.grad_input(of_h, own, 0, grad_input=of_h)
            add_outer(of_embedding, of_h, x[rows], is_first=rows.start == 0)
            add_outer_of_each(of_weights, of_gates, own, is_first=rows.start == 0)
            if of_x is not None:
                times(of_h, embedding, out=of_x[rows])
        of_v_weight, of_u_weight = of_weights
        return (
            None, of_x, None, of_embedding,
            of_v_weight, of_v_bias, of_u_weight, of_u_bias, of_score[None], of_score_bias,
        )  # fmt: skip
