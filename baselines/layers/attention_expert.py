"""AMIL's embedding network: AMIL without its head, and each expert of MMoE+AMIL."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from milbench_baselines.layers.attention_pooling import (
    Branches,
    PoolGradients,
    RunningPool,
    Weights,
    gates_of,
    weighted_sum,
)
from milbench_baselines.layers.dropout import Dropout
from milbench_baselines.layers.embedding import (
    EMBEDDING,
    Embedding,
    EmbeddingGradients,
    embed_block,
    embedded_in_blocks,
)
from milbench_baselines.layers.gated_attention import ATTENTION, GatedAttention
from milbench_baselines.layers.gated_pooling import fused_pooling, gated_pooling, goes_fused
from milbench_baselines.layers.initialisation import xavier
from milbench_baselines.layers.masks import DRAWN, Masks
from milbench_baselines.layers.products import Linear
from milbench_baselines.layers.row_blocks import blocks_of, differentiable_once, goes_in_blocks
from milbench_baselines.layers.small_bags import is_cheap
from milbench_baselines.layers.small_experts import is_small, pooled_small
from milbench_baselines.layers.usual import is_made_of

DEAD_CLASSES = 4

MOST_KEPT = 2**14
"""Patches up to which a training step keeps both branches. Those of a larger bag are computed again in the backward: a seventh of AMIL's
products or less, for half of what it would keep."""


class AttentionExpert(nn.Module):
    """Slide feature [hidden] and raw attention scores [N] of patches [N, D].

    h_n = Dropout(ReLU(W x_n + b));  M = sum_n softmax_n(gated attention(h_n)) h_n.

    Parameters
    ----------
    in_features : D.
    hidden, attention : widths of the embedding and of the attention's branches.
    dropout : on the embedding.
    attention_dropout : on both attention branches.
    dead_layer : also own the Linear hidden -> 4 that the official experts have and never use.
    """

    def __init__(
        self,
        in_features: int,
        *,
        hidden: int,
        attention: int,
        dropout: float = 0.25,
        attention_dropout: float = 0.25,
        dead_layer: bool = False,
    ) -> None:
        super().__init__()
        self.embed = Embedding(in_features, hidden, dropout)
        self.attention = GatedAttention(hidden, attention, dropout=attention_dropout)
        self.dead = Linear(hidden, DEAD_CLASSES) if dead_layer else None
        xavier(self)

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Slide feature [hidden] and scores [N]."""
        attention = self.attention
        if goes_in_blocks(features, attention.dropout) and not is_cheap(features, attention.tanh_branch.in_features):
            if self.embed.is_usual and attention.is_usual:
                return self._in_blocks(features)
        # alone, one model's few operations start sooner than a function of its own
        elif torch._C._are_functorch_transforms_active() and is_small(features, self.embed, attention):
            slides, of_all = pooled_small([(self.embed, attention)], features)
            return slides[0], of_all[0]
        h = self.embed(features)                                  # [N, hidden]
        if goes_fused(h, attention.dropout) and attention.is_usual:
            slides, of_all = fused_pooling([attention], h[None])
            return slides[0], of_all[0]
        scores = attention(h)                                # [N]        Ilse et al., eq. 9
        return weighted_sum(scores.softmax(dim=0), h), scores     # [hidden]   Ilse et al., eq. 7

    def _in_blocks(self, features: Tensor) -> tuple[Tensor, Tensor]:
        embed, _, dropout = cast(Any, self.embed)
        attention = self.attention
        layers: list[Any] = [embed, attention.tanh_branch, attention.sigmoid_branch, attention.score]
        parameters = [parameter for layer in layers for parameter in (layer.weight, layer.bias)]
        if not (torch.is_grad_enabled() or dropout.draws or attention.dropout.draws):
            return _looked_at(dropout, features, *parameters)
        slide, scores, *_ = _InBlocks.apply(dropout, attention.dropout, features, *parameters)  # type: ignore[no-untyped-call]
        return slide, scores

    @property
    def is_usual(self) -> bool:
        """Whether functions of whole layers may take this one's place."""
        dead = () if self.dead is None else (Linear,)
        return is_made_of(self, AttentionExpert, *EMBEDDING, *ATTENTION, *dead)

    numbers_side_by_side = 2**17
    """Numbers of a bag's embedded patches, of all experts, up to which they go side by side on a CPU, though they are not few."""

    @staticmethod
    def n_scored(n_patches: int) -> int:
        """Number of scores of a bag."""
        return n_patches

    @staticmethod
    def of_all(
        experts: Sequence[AttentionExpert], features: Tensor, masks: Masks = DRAWN
    ) -> tuple[Tensor, Tensor]:
        """Slide features [E, hidden] and scores [E, N] of E experts: `forward` of each, in shared products."""
        one = experts[0]
        if is_small(features, one.embed, one.attention):
            return pooled_small([(expert.embed, expert.attention) for expert in experts], features)
        h = Embedding.of_all([expert.embed for expert in experts], features, masks.embed).transpose(0, 1)  # [E, N, hidden]
        return gated_pooling([expert.attention for expert in experts], h, masks.attention)    # [E, hidden], [E, N]


def _looked_at(
    no_dropout: Dropout, x: Tensor, weight: Tensor, bias: Tensor, *others: Tensor
) -> tuple[Tensor, Tensor]:
    """`AttentionExpert.forward` for large bags without dropout and gradients: nothing of a block is kept."""
    weights, blocks = Weights(*others), blocks_of(len(x), width=len(weight))
    size = blocks[0].stop
    h, scores, pool = x.new_empty(size, len(weight)), x.new_empty(len(x)), RunningPool(len(weight), x)
    branches = Branches(weights)
    memory = branches.memory(size)
    for rows in blocks:
        n = rows.stop - rows.start
        own = embed_block(no_dropout, x[rows], weight, bias, out=h[:n])
        scores[rows] = branches.scores(gates_of(memory[:n]), own, None)
        pool.add(scores[rows], own)
    return pool.pooled(), scores


class _InBlocks(torch.autograd.Function):
    """`AttentionExpert.forward` for large bags. Its backward needs the embedded rows and both branches of the attention.

    Of the largest bags it computes the branches again, after the same dropout mask was drawn again.
    """

    @staticmethod
    def forward(*inputs: Any) -> tuple[Tensor, ...]:  # torch looks at each named argument at every call
        dropout, attention_dropout, x, weight, bias, *others = inputs
        weights, h = Weights(*others), embedded_in_blocks(dropout, x, weight, bias)
        scores, pool, blocks = h.new_empty(len(h)), RunningPool(h.shape[1], h), blocks_of(len(x), width=len(weight))
        keeps = len(h) <= MOST_KEPT
        branches = Branches(weights)
        memory = branches.memory(len(h) if keeps else blocks[0].stop)
        state = torch.get_rng_state() if attention_dropout.draws and not keeps else torch.empty(0)
        for rows in blocks:
            place = rows if keeps else slice(0, rows.stop - rows.start)
            own = gates_of(memory[place])
            mask = attention_dropout.mask(own.shape[1:], like=h) if attention_dropout.draws else None
            scores[rows] = branches.scores(own, h[rows], mask)
            pool.add(scores[rows], h[rows])
        return pool.pooled(), scores, h, memory if keeps else h.new_empty(0), state

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        dropout, attention_dropout, x, weight, _, *others = inputs
        ctx.factors, ctx.attention_dropout = (dropout.factor, attention_dropout.factor), attention_dropout
        ctx.mark_non_differentiable(*output[2:])
        ctx.set_materialize_grads(False)  # they would be as large as all outputs
        ctx.save_for_backward(x, weight, *others, *output)

    @staticmethod
    @differentiable_once
    def backward(ctx: Any, of_slide: Tensor | None, of_scores: Tensor | None, *_: None) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        x, weight, *others, slide, scores, h, memory, state = ctx.saved_tensors
        of_embedding = EmbeddingGradients(ctx.factors[0], x, weight, wants_x=ctx.needs_input_grad[2])
        weights, blocks, keeps = Weights(*others), blocks_of(len(x), width=len(weight)), len(memory) > 0
        of_pool = PoolGradients(weights, ctx.factors[1], slide, scores, of_slide, of_scores)
        if not keeps:
            branches = Branches(weights)
            memory = branches.memory(blocks[0].stop)
        generator = torch.Generator().set_state(state) if len(state) else None
        for rows in blocks:
            place = rows if keeps else slice(0, rows.stop - rows.start)
            own = gates_of(memory[place])
            if not keeps:
                mask = ctx.attention_dropout.drawn_from(generator, own.shape[1:], like=h) if generator else None
                branches.fill(own, h[rows], mask)
            of_embedding.add(rows, h[rows], of_pool.of_rows(rows, h[rows], own), is_own=True)
        return None, None, of_embedding.of_x, of_embedding.of_weight, of_embedding.of_bias, *of_pool.of_weights


def official_names(ours: str, official: str, *, dead_layer: bool) -> dict[str, str]:
    """Our prefix of every official prefix of one expert."""
    names = {
        f"{official}attention_net.0": f"{ours}embed.0",
        f"{official}attention_net.3.attention_a.0": f"{ours}attention.tanh_branch",
        f"{official}attention_net.3.attention_b.0": f"{ours}attention.sigmoid_branch",
        f"{official}attention_net.3.attention_c": f"{ours}attention.score",
    }
    return {**names, f"{official}classifier": f"{ours}dead"} if dead_layer else names
