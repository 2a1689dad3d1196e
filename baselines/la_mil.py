"""LA-MIL: layers in which each patch attends to its nearest patches on the slide; and GA-MIL, in which it attends to all.

paper    Reisenbüchler et al., "Local Attention Graph-Based Transformer for Multi-target Genetic Alteration Prediction",
         MICCAI 2022
code     agentdr1/LA_MIL@1547f4d, `T_MIL` with `LA_MIL`; GA-MIL (`reach="global"`) with `GA_MIL`
differs  of equally near patches the upper and then the one further left; the official code decides by chance
         neighbours are gathered for a few patches at a time and again in the backward (equal up to rounding)
         GA-MIL's LayerNorm, which no forward uses, is left out unless `dead_layer`
         neither loss nor trainer is released: losses are summed over the tasks, and the recipe is the study's
         each layer has a number of neighbours; the official code leaves out layers for which no graph is given
kinds    the Linear on the slide's mean has W logits
map      LA-MIL: what the head says of each patch's last row; the slide's logit is their mean;
         GA-MIL: what a patch gets of the last layer's attention, mean over all patches and heads, which sums to 1;
         each is the other's alternative
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import Tensor, nn

from milbench.endpoints.evidence import evidence
from milbench.layout import Layout
from milbench.models import AttentionMaps, BagOutput, MILModel, Sharing, register_model
from milbench.search_space import Choice, SearchSpace, TimesOneOf
from milbench_baselines.layers import full_attention, local_attention
from milbench_baselines.layers.checkpoint import load_official, shape_of
from milbench_baselines.layers.dropout import Dropout, refuse_no_rate
from milbench_baselines.layers.options import one_of, refuse_uneven_heads
from milbench_baselines.layers.products import Linear

Reach = Literal["local", "global"]

LIMIT = 5.0
"""Scores are clamped to this, either way."""


class LocalLayer(nn.Module):
    """Rows h + O(attention to the k nearest patches): no norm, no dropout, no feed-forward."""

    def __init__(self, width: int, heads: int, n_neighbours: int) -> None:
        super().__init__()
        self.heads, self.n_neighbours = heads, n_neighbours
        self.query, self.key, self.value = (Linear(width, width, bias=False) for _ in range(3))
        self.out = Linear(width, width)

    def forward(self, h: Tensor, neighbours: Tensor) -> Tensor:
        """Rows [N, H] of rows [N, H]; `neighbours` [N, K >= k], nearest first."""
        near = neighbours[:, : self.n_neighbours]
        q, k, v = self.query(h), self.key(h), self.value(h)
        return h + self.out(local_attention.local_attention(q, k, v, near, heads=self.heads, limit=LIMIT))  # type: ignore[no-any-return]

    def received(self, h: Tensor, neighbours: Tensor) -> Tensor:
        """What each patch gets of the attention to `h` [N, H]: [heads, N], rows sum to 1."""
        near = neighbours[:, : self.n_neighbours]
        weights = local_attention.local_weights(self.query(h), self.key(h), near, heads=self.heads, limit=LIMIT)
        return local_attention.received(weights, near)


class GlobalLayer(nn.Module):
    """Rows h + Dropout(O(attention to all patches))."""

    def __init__(self, width: int, heads: int, dropout: float, *, dead_layer: bool) -> None:
        super().__init__()
        self.heads = heads
        if dead_layer:
            self.norm = nn.LayerNorm(width)
        self.qkv = Linear(width, 3 * width, bias=False)
        self.out = Linear(width, width)
        self.dropout = Dropout(dropout)

    def forward(self, h: Tensor, neighbours: Tensor) -> Tensor:
        """Rows [N, H] of rows [N, H]; the neighbours do not matter."""
        q, k, v = self._heads(h)
        mixed = full_attention.full_attention(q, k, v)                       # [heads, N, H / heads]
        return h + self.dropout(self.out(mixed.transpose(0, 1).flatten(1)))  # type: ignore[no-any-return]

    def received(self, h: Tensor, neighbours: Tensor) -> Tensor:
        """What each patch gets of the attention to `h` [N, H]: [heads, N], rows sum to 1."""
        q, k, _ = self._heads(h)
        return full_attention.received(q, k)

    def _heads(self, h: Tensor) -> tuple[Tensor, ...]:
        """Queries, keys and values [heads, N, H / heads]."""
        return self.qkv(h).reshape(len(h), 3, self.heads, -1).permute(1, 2, 0, 3).unbind()  # type: ignore[no-any-return]


@register_model(
    "la_mil",
    title="LA-MIL",
    tasks="multi",
    paper="Reisenbüchler et al., MICCAI 2022",
    official="agentdr1/LA_MIL@1547f4d",
    needs_coords=True,
    sharing=Sharing("all but the last layer", step=7),
    search_space=SearchSpace(
        model={
            "hidden": TimesOneOf(0.5, 1, 2),
            "first_neighbours": Choice(8, 16, 32),
            "second_neighbours": Choice(32, 64, 128),
        }
    ),
)
class LAMIL(MILModel):
    """Two layers of attention between neighbours, and the mean of all patches.

    With k_1 and k_2 nearest patches, itself included::

        h = ReLU(W x + b)                                                     (1)
        s_ij = clamp(q_i . k_j / sqrt d, -5, 5), j among the k_l nearest of i  (2)
        h_i <- h_i + O sum_j exp(s_ij) v_j / sum_j exp(s_ij), for l = 1, 2     (3)
        logits = Linear(mean_n h_n)                                           (4)

    Parameters
    ----------
    in_features, n_outputs : D, and W logits of T tasks.
    hidden : width H of all rows. Official: 512.
    heads : of both attentions; each has width d = `hidden // heads`. Official: 8.
    first_neighbours, second_neighbours : k_1 and k_2; a smaller bag has as many as patches. Official: 16 and 64.
    reach : "local", or "global" (GA-MIL): every patch attends to all, without the clamp.
    dropout : after each attention of GA-MIL; LA-MIL has none. Official: 0.1.
    dead_layer : keep GA-MIL's LayerNorm, which no forward uses, so that initialisation and number of parameters are
        official.
    """

    def __init__(
        self,
        in_features: int,
        n_outputs: int,
        *,
        hidden: int = 512,
        heads: int = 8,
        first_neighbours: int = 16,
        second_neighbours: int = 64,
        reach: Reach = "local",
        dropout: float = 0.1,
        dead_layer: bool = False,
    ) -> None:
        super().__init__(in_features, n_outputs)
        refuse_uneven_heads(hidden, heads)
        refuse_no_rate(dropout)
        self.is_local = one_of(Reach, reach=reach) == "local"
        self.n_neighbours = max(first_neighbours, second_neighbours) if self.is_local else 0
        self.embed = nn.Sequential(Linear(in_features, hidden), nn.ReLU())
        self.layers = nn.ModuleList(
            LocalLayer(hidden, heads, k) if self.is_local else GlobalLayer(hidden, heads, dropout, dead_layer=dead_layer)
            for k in (first_neighbours, second_neighbours)
        )
        self.head = Linear(hidden, n_outputs)

    def forward(self, features: Tensor, layout: Layout) -> BagOutput:  # type: ignore[override]
        """Logits [W]; aux `slide` [H]."""
        h = self.embed(features)                                  # [N, H]      (1)
        for layer in self.layers:
            h = layer(h, layout.neighbours)                       # [N, H]      (2), (3)
        slide = h.mean(dim=0)                                     # [H]
        return BagOutput(self.head(slide), None, {"slide": slide})  # [W]       (4)

    def attention_maps(self, features: Tensor, layout: Layout) -> AttentionMaps:  # type: ignore[override]
        """Maps [R, N]: the patches' logits and the last layer's attention; which comes first stands in the file's header."""
        with torch.no_grad():
            h = self.embed(features)
            for layer in self.layers:
                before, h = h, layer(h, layout.neighbours)
            patches = evidence(self.outputs, self.head(h)).T                              # [R, N]
            by_head = self.layers[-1].received(before, layout.neighbours)  # type: ignore[operator]  # [heads, N]
            shared = by_head.mean(dim=0).expand(len(patches), -1)                         # [R, N]
            logits = self.head(h.mean(dim=0))
        names = {"patch logits": patches, "attention of the last layer": shared}
        kind = "patch logits" if self.is_local else "attention of the last layer"
        return AttentionMaps(
            kind, names.pop(kind), logits, is_distribution=not self.is_local,
            per_expert=by_head, experts=tuple(f"head {head}" for head in range(len(by_head))), alternatives=names,
        )  # fmt: skip

    @classmethod
    def from_official(
        cls, state_dict: Mapping[str, Tensor], *, n_outputs: int | None = None, dead_layer: bool = False, **options: Any
    ) -> LAMIL:
        """Model in eval mode with the weights of an official `T_MIL`, whose layers say which of the two it is.

        Its logits are binary tasks, unless `n_outputs` says what they answer. GA-MIL's dead layers are left out unless
        `dead_layer`.
        """
        hidden, in_features = shape_of(state_dict, "fc1.weight")
        is_global = "layers.0.attn.to_qkv.weight" in state_dict
        told = {"hidden": hidden, "reach": "global" if is_global else "local", "dead_layer": dead_layer}
        outputs = n_outputs or shape_of(state_dict, "mlp_head.weight")[0]
        names = {"fc1": "embed.0", "mlp_head": "head"}
        for layer in range(2):
            names |= _official_names(f"layers.{layer}.")
        is_dead = is_global and not dead_layer
        kept = {name: tensor for name, tensor in state_dict.items() if not (is_dead and ".norm." in name)}
        return load_official(cls(in_features, outputs, **{**told, **options}), kept, names)


def _official_names(layer: str) -> dict[str, str]:
    """Our prefix of every official prefix of one layer of either kind."""
    official = {
        "attention.Q": "query", "attention.K": "key", "attention.V": "value", "O": "out",
        "norm": "norm", "attn.to_qkv": "qkv", "attn.to_out.0": "out",
    }  # fmt: skip
    return {layer + theirs: layer + ours for theirs, ours in official.items()}
