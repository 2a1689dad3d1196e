"""ILRA-MIL: a few latent rows exchange information with all patches, twice, then one query pools the bag.

paper    Xiang, Zhang, "Exploring low-rank property in multiple instance learning for whole slide image classification",
         ICLR 2023
code     jinxixiang/low_rank_wsi@bb45b9b; defaults of its released configuration (rank 1, LayerNorm), not of its class
         (rank 2, none), whose activations grow from layer to layer
differs  a binary task's logit is the difference of the official two, so BCE on it is their cross-entropy
         inner projections meet the few latents instead of the N patches (equal up to rounding)
         slides come in another order each epoch; the official code shows them in the order of its file
         the paper's contrastive pre-training of features is not part of it; the code has none either
rank     at rank 1 a patch's softmax is that of one number, 1: the key projections of `up` then change nothing,
         nor do the query and key parts of its attention. They are kept, with zero gradients, as in the official code
kinds    the head has W logits, of C classes the official C
map      the pooling query's attention over the patches, mean over heads, which sums to 1; it weighs rows that the two
         layers before have made, not the patches themselves
"""

from __future__ import annotations

from collections.abc import Mapping
from math import sqrt
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import linear, silu

from milbench.models import AttentionMaps, BagOutput, MILModel, register_model
from milbench.search_space import Choice, SearchSpace, TimesOneOf
from milbench_baselines.layers.checkpoint import load_official, outputs_of_classes, shape_of
from milbench_baselines.layers.options import refuse_uneven_heads
from milbench_baselines.layers.products import Linear
from milbench_baselines.layers.two_class import answer_of, head_width, refuse_several_tasks

LAYERS = 2

OFFICIAL_RECIPE = {
    "optimizer": "adam",
    "lr": 1e-4,
    "weight_decay": 0.0,
    "schedule": "cosine",
    "lr_floor": 0.0,
    "epochs": 100,
    "bags_per_step": 1,
    "select_after": 0.985,  # the official code tests its last epoch
    "select_by": "val_loss",
}


class Block(nn.Module):
    """Attention block B(Q, K) [n, d]: rows Q [n, dQ] ask rows K [m, dK].

    ::

        q = W_q Q,  k = W_k K,  v = W_v K                       (1)
        o = q + MultiheadAttention(q, k, v)                     (2)
        o = LayerNorm(o);  o = LayerNorm(o + ReLU(W_o o))       (3)
        o = o * SiLU(W_g Q)                                     (4)

    All projections have a bias, and the attention has an in-projection of its own for each of q, k, v.

    Parameters
    ----------
    of_queries, of_keys, hidden : dQ, dK, d.
    heads : of the attention.
    layer_norm, gated : whether there are the norms of (3), and (4).
    """

    def __init__(
        self, of_queries: int, of_keys: int, hidden: int, *, heads: int, layer_norm: bool, gated: bool
    ) -> None:
        super().__init__()
        self.query = Linear(of_queries, hidden)
        self.key, self.value = Linear(of_keys, hidden), Linear(of_keys, hidden)
        self.attention = nn.MultiheadAttention(hidden, heads)             # only its weights are used
        self.norm0, self.norm1 = (nn.LayerNorm(hidden) if layer_norm else nn.Identity() for _ in range(2))
        self.feed = Linear(hidden, hidden)
        self.gate = Linear(of_queries, hidden) if gated else None
        self.heads, self.scale = heads, 1 / sqrt(hidden // heads)

    def few_ask(self, few: Tensor, bag: Tensor) -> tuple[Tensor, Tensor]:
        """Results [r, d] and attention [heads, r, N] of r rows `few` that ask a bag [N, dK]."""
        to_q, to_k, to_v, of_q, _, of_v = self._in_projections()
        q = self.query(few)                                               # [r, d]           (1)
        asked = (q @ to_q.mT + of_q[:, None]) * self.scale                # [heads, r, c]
        # Biases of keys shift all scores of a query alike, so softmax does not see them. 0 makes their gradient zero, not missing.
        meet = asked @ to_k + 0 * self.key.bias                           # [heads, r, d]    meets W_k x
        attention = ((meet @ self.key.weight) @ bag.mT).softmax(dim=-1)   # [heads, r, N]
        v = self.value(attention @ bag)                                   # [heads, r, d]    the weights sum to 1
        mixed = v @ to_v.mT + of_v[:, None]                               # [heads, r, c]
        out = self.attention.out_proj(mixed.transpose(0, 1).flatten(1))   # [r, d]
        return self._finish(q + out, few), attention                      # [r, d]           (2)-(4)

    def many_ask(self, bag: Tensor, few: Tensor) -> Tensor:
        """Results [N, d] of a bag [N, dQ] that asks r rows `few` [r, dK]."""
        to_q, to_k, to_v, of_q, of_k, of_v = self._in_projections()
        q = self.query(bag)                                               # [N, d]           (1)
        k = (self.key(few) @ to_k.mT + of_k[:, None]) * self.scale        # [heads, r, c]
        v = self.value(few) @ to_v.mT + of_v[:, None]                     # [heads, r, c]
        meet, shift = k @ to_q, k @ of_q[:, :, None]                      # [heads, r, d], [heads, r, 1]
        scores = linear(q, meet.flatten(0, 1), shift.flatten())           # [N, heads r]
        attention = scores.reshape(bag.shape[0], self.heads, -1).softmax(dim=-1)  # [N, heads, r]
        to_out = self.attention.out_proj.weight.reshape(q.shape[1], self.heads, -1).permute(1, 2, 0)  # [heads, c, d]
        out = attention.flatten(1) @ (v @ to_out).flatten(0, 1) + self.attention.out_proj.bias        # [N, d]
        return self._finish(q + out, bag)                                 # [N, d]           (2)-(4)

    def _finish(self, o: Tensor, queries: Tensor) -> Tensor:
        """Rows [n, d] after (3) and (4)."""
        o = self.norm0(o)
        o = self.norm1(o + self.feed(o).relu())                           # (3)
        return o if self.gate is None else o * silu(self.gate(queries))   # (4)

    def _in_projections(self) -> list[Tensor]:
        """Weights [heads, c, d] of q, k and v inside the attention, and their biases [heads, c]."""
        weights = self.attention.in_proj_weight.reshape(3, self.heads, -1, self.attention.embed_dim)
        return [*weights, *self.attention.in_proj_bias.reshape(3, self.heads, -1)]


class GlobalAttention(nn.Module):
    """Rows [N, d] of a bag [N, D], each of which asked r latents that had asked the bag; and these latents [r, d]."""

    def __init__(self, in_features: int, hidden: int, *, rank: int, heads: int, layer_norm: bool) -> None:
        super().__init__()
        self.latent = nn.Parameter(torch.empty(1, rank, hidden))
        nn.init.xavier_uniform_(self.latent)
        self.down = Block(hidden, in_features, hidden, heads=heads, layer_norm=layer_norm, gated=True)
        self.up = Block(in_features, hidden, hidden, heads=heads, layer_norm=layer_norm, gated=True)

    def forward(self, bag: Tensor) -> tuple[Tensor, Tensor]:
        """New rows [N, d], not added to the bag, and latents [r, d]."""
        latents, _ = self.down.few_ask(_only(self.latent), bag)
        return self.up.many_ask(bag, latents), latents


class Pooling(nn.Module):
    """Slide feature [d] and attention [heads, N] of a learnt query that asks the bag [N, d]."""

    def __init__(self, hidden: int, *, heads: int, layer_norm: bool) -> None:
        super().__init__()
        self.seed = nn.Parameter(torch.empty(1, 1, hidden))
        nn.init.xavier_uniform_(self.seed)
        self.block = Block(hidden, hidden, hidden, heads=heads, layer_norm=layer_norm, gated=False)

    def forward(self, bag: Tensor) -> tuple[Tensor, Tensor]:
        rows, attention = self.block.few_ask(_only(self.seed), bag)
        return rows[0], attention[:, 0]


@register_model(
    "ilra",
    title="ILRA-MIL",
    tasks="single",
    paper="Xiang and Zhang, ICLR 2023",
    official="jinxixiang/low_rank_wsi@bb45b9b",
    official_recipe=OFFICIAL_RECIPE,
    search_space=SearchSpace(model={"hidden": TimesOneOf(0.5, 1, 2), "rank": Choice(1, 2, 4, 8)}),
)
class ILRA(MILModel):
    """Attention between all patches through r latent rows, so of rank r.

    With blocks B (see `Block`), latents L and a query S that are learnt, X the bag::

        H = B(L, X),  X <- B(X, H)    twice, with gates    (5)
        logits = Linear(B(S, X))      without a gate       (6)

    Parameters
    ----------
    in_features, n_outputs : D, and W logits of one task.
    hidden : width d of all rows after the bag's own. Official: 256.
    rank : r, official `topk`.
    heads : of every attention; `hidden` is a multiple of it. Official: 8.
    layer_norm : whether the blocks normalise, official `ln`.
    """

    def __init__(
        self,
        in_features: int,
        n_outputs: int,
        *,
        hidden: int = 256,
        rank: int = 1,
        heads: int = 8,
        layer_norm: bool = True,
    ) -> None:
        super().__init__(in_features, n_outputs)
        refuse_several_tasks("ILRA-MIL", self.outputs)
        refuse_uneven_heads(hidden, heads)
        options: dict[str, Any] = {"heads": heads, "layer_norm": layer_norm}
        self.layers = nn.ModuleList(
            GlobalAttention(hidden if layer else in_features, hidden, rank=rank, **options) for layer in range(LAYERS)
        )
        self.pooling = Pooling(hidden, **options)
        self.head = Linear(hidden, head_width(self.outputs))
        for part in self.modules():
            if isinstance(part, nn.Linear):                               # biases stay torch's, as in the official code
                nn.init.xavier_normal_(part.weight)

    def forward(self, features: Tensor) -> BagOutput:
        """Logits [W], pooling attention [heads, N]; aux `head_logits`, `bag`, `latents` [2, r, d], `layer1`, `layer2` [N, d]."""
        first, h1 = self.layers[0](features)                              # [N, d], [r, d]
        second, h2 = self.layers[1](first)                                # [N, d], [r, d]  (5)
        bag, attention = self.pooling(second)                             # [d], [heads, N]
        head_logits = self.head(bag)                                      # [2] or [W]      (6)
        aux = {"head_logits": head_logits, "bag": bag, "latents": torch.stack((h1, h2)), "layer1": first, "layer2": second}
        return BagOutput(answer_of(self.outputs, head_logits), attention, aux)

    def attention_rows(self) -> tuple[str, ...]:
        """One row per head of the pooling."""
        return tuple(f"head {head}" for head in range(self.pooling.block.heads))

    def attention_maps(self, features: Tensor) -> AttentionMaps:
        """Pooling attention [R, N], mean over heads, the same row for every class; per head beside it."""
        output = self(features)
        heads = output.attention.detach()                                 # [heads, N]
        return AttentionMaps(
            "softmax attention of the pooling", heads.mean(dim=0).expand(len(self.outputs.maps), -1), output.logits.detach(),
            is_distribution=True, per_expert=heads, experts=self.attention_rows(),
        )  # fmt: skip

    @classmethod
    def from_official(
        cls, state_dict: Mapping[str, Tensor], *, n_outputs: int | None = None, **options: Any
    ) -> ILRA:
        """Model in eval mode with the weights of an official `ILRA`. No tensor shows `heads`: its default is the official 8.

        Two classes are a binary task and more are classes, unless `n_outputs` says what the logits answer.
        """
        _, rank, hidden = shape_of(state_dict, "gab_blocks.0.latent")
        in_features = shape_of(state_dict, "gab_blocks.0.project_forward.fc_k.weight")[1]
        told = {"hidden": hidden, "rank": rank, "layer_norm": "pooling.mha.ln0.weight" in state_dict}
        outputs = n_outputs or outputs_of_classes(shape_of(state_dict, "classifier.weight")[0])
        return load_official(cls(in_features, outputs, **{**told, **options}), state_dict, official_names())


def _only(rows: Tensor) -> Tensor:
    """Rows [r, d] of a parameter [1, r, d], as in the official code. A view, without gradients, stops torch's flop counter."""
    return rows.sum(dim=0)


def official_names() -> dict[str, str]:
    """Our prefix of every official prefix."""
    blocks = {"pooling.mha": "pooling.block"}
    names = {"pooling.S": "pooling.seed", "classifier": "head"}
    for layer in range(LAYERS):
        names[f"gab_blocks.{layer}.latent"] = f"layers.{layer}.latent"
        blocks[f"gab_blocks.{layer}.project_forward"] = f"layers.{layer}.down"
        blocks[f"gab_blocks.{layer}.project_backward"] = f"layers.{layer}.up"
    parts = {
        "fc_q": "query", "fc_k": "key", "fc_v": "value", "fc_o": "feed", "ln0": "norm0", "ln1": "norm1", "gate.0": "gate",
        "multihead_attn": "attention",
    }  # fmt: skip
    return names | {f"{official}.{a}": f"{ours}.{b}" for official, ours in blocks.items() for a, b in parts.items()}
