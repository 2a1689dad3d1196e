"""WiKG: each patch gathers from the patches that it scores highest, then the bag is pooled.

paper    Li et al., "Dynamic graph representation with knowledge-aware attention for histopathology whole slide image
         analysis", CVPR 2024
code     WonderLandxD/WiKG@eb3144f
differs  a bag of fewer patches than neighbours uses all of them (the official code raises)
         a binary task's logit is the difference of the official two, so BCE on it is their cross-entropy
         scores of all pairs are never kept: neighbours are chosen by chunks of rows
         messages are computed again in the backward, by chunks
         the unused layers gate_U, gate_V, gate_W are left out unless `dead_layer`
         no readout by maximum
         the epoch is chosen by AUROC; the official code keeps a best epoch for each of five metrics
kinds    the head has W logits, of C classes the official C
map      readout "attention": its softmax attention over the patches, which sums to 1; "mean": patch logits, the head on
         each patch's row under the bag's own LayerNorm scale, whose mean is the answer; both without gradients, and of
         rows that already hold neighbours and the bag mean; patch logits are also the alternative of "attention"
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import leaky_relu

from milbench.endpoints.evidence import evidence
from milbench.models import AttentionMaps, BagOutput, MILModel, register_model
from milbench.search_space import Choice, SearchSpace, TimesOneOf
from milbench_baselines.layers.checkpoint import load_official, outputs_of_classes, shape_of
from milbench_baselines.layers.dropout import Dropout
from milbench_baselines.layers.options import one_of
from milbench_baselines.layers.precision import without_autocast
from milbench_baselines.layers.products import Linear
from milbench_baselines.layers.row_chunks import float32_or_wider, of_row_chunks
from milbench_baselines.layers.two_class import answer_of, head_width, refuse_several_tasks

Readout = Literal["attention", "mean"]
Weight = Literal["product_of_sums", "inner_product"]

OFFICIAL_RECIPE = {
    "optimizer": "adam",
    "lr": 1e-4,
    "weight_decay": 1e-5,
    "schedule": "constant",
    "epochs": 100,
    "bags_per_step": 1,
    "select_by": "val_auroc",  # official: one best checkpoint per metric
    "model": {"readout": "mean"},
}

OFFICIAL_NAMES = {
    "_fc1.0": "embed",
    "W_head": "head_of_edge",
    "W_tail": "tail_of_edge",
    "linear1": "of_sum",
    "linear2": "of_product",
    "readout.gate_nn": "attention",
    "norm": "norm",
    "fc": "head",
    "gate_U": "dead.U",
    "gate_V": "dead.V",
    "gate_W": "dead.W",
}

DEAD = ("gate_U.", "gate_V.", "gate_W.")

SCORES_AT_ONCE = 2**22
"""Scores of pairs that exist at a time while neighbours are chosen: 16 MB in float32."""


@register_model(
    "wikg",
    title="WiKG",
    tasks="single",
    paper="Li et al., CVPR 2024",
    official="WonderLandxD/WiKG@eb3144f",
    official_recipe=OFFICIAL_RECIPE,
    search_space=SearchSpace(
        model={
            "hidden": TimesOneOf(0.5, 1, 2),
            "neighbours": Choice(3, 6, 12),
            "dropout": Choice(0.0, 0.1, 0.3, 0.5),
            "readout": Choice("attention", "mean"),
        }
    ),
)
class WiKG(MILModel):
    """One round of messages on a directed graph of patches that the model draws itself.

    With g a LeakyReLU of slope 0.01::

        h_i = g(W x_i + b), then the mean of h_i and the bag mean of h            (1)
        e_i = W_e h_i + b_e,  t_i = W_t h_i + b_t                                 (2)
        J_i = the k patches j with the highest s_ij = e_i . t_j / sqrt(hidden)    (3)
        p_ij = softmax over J_i of s_ij,  r_ij = p_ij t_j + (1 - p_ij) e_i        (4)
        w_ij = softmax over J_i of (sum of t_j) (sum of tanh(e_i + r_ij))         (5)
        n_i = sum over J_i of w_ij t_j                                            (6)
        h_i = Dropout(g(W_1 (e_i + n_i) + b_1) + g(W_2 (e_i * n_i) + b_2))        (7)
        logits = Linear(LayerNorm(sum_i a_i h_i))                                 (8)

    A patch may be its own neighbour. The choice (3) is not differentiated, the chosen scores are.

    Parameters
    ----------
    in_features, n_outputs : D, and W logits of one task.
    hidden : width of all rows. Official: 512.
    attention : width of the readout's attention. Official: 256.
    neighbours : k; a smaller bag uses all its patches. Official: 6.
    dropout : in (7). Official: 0.3.
    readout : a_i of (8). "attention": softmax of Linear, g, Linear, the official class's default; it gives a map.
        "mean": 1/N, which the official training script sets; so does `official_recipe`.
    weight : of a neighbour in (5). "product_of_sums": as the code computes it. "inner_product": t_j . tanh(e_i + r_ij), as
        the paper's notation says.
    dead_layer : also own the three Linear layers that the official model has and never uses.
    """

    def __init__(
        self,
        in_features: int,
        n_outputs: int,
        *,
        hidden: int = 512,
        attention: int = 256,
        neighbours: int = 6,
        dropout: float = 0.3,
        readout: Readout = "attention",
        weight: Weight = "product_of_sums",
        dead_layer: bool = False,
    ) -> None:
        super().__init__(in_features, n_outputs)
        refuse_several_tasks("WiKG", self.outputs)
        self.neighbours, self.weight = neighbours, one_of(Weight, weight=weight)
        self.embed = Linear(in_features, hidden)
        self.head_of_edge, self.tail_of_edge = Linear(hidden, hidden), Linear(hidden, hidden)
        self.dead = nn.ModuleDict(_dead_layers(hidden) if dead_layer else {})
        self.of_sum, self.of_product = Linear(hidden, hidden), Linear(hidden, hidden)
        self.dropout = Dropout(dropout)
        self.norm = nn.LayerNorm(hidden)
        self.head = Linear(hidden, head_width(self.outputs))
        has_attention = one_of(Readout, readout=readout) == "attention"
        self.attention = (
            nn.Sequential(Linear(hidden, attention), nn.LeakyReLU(), Linear(attention, 1)) if has_attention else None
        )

    def forward(self, features: Tensor) -> BagOutput:
        """Logits [W], readout attention [1, N] or None; aux `head_logits`, `bag`, `rows` [N, H], `neighbours` [N, k]."""
        h = leaky_relu(self.embed(features))                              # [N, H]
        h = (h + h.mean(dim=0)) / 2                                       # [N, H]      (1)
        e, t = self.head_of_edge(h), self.tail_of_edge(h)                 # [N, H]      (2)
        chosen = highest(e.detach(), t.detach(), min(self.neighbours, len(e)))  # [N, k]  (3)
        gather = partial(message, weight=self.weight)
        n = of_row_chunks(gather, (e, chosen), (t,), entries_per_row=chosen.shape[1] * e.shape[1])  # [N, H]  (4)-(6)
        rows = leaky_relu(self.of_sum(e + n)) + leaky_relu(self.of_product(e * n))  # [N, H]
        rows = self.dropout(rows)                                         # [N, H]      (7)
        if self.attention is None:
            attention, bag = None, rows.mean(dim=0)                       # [H]
        else:
            attention = self.attention(rows).mT.softmax(dim=1)            # [1, N]
            bag = (attention @ rows)[0]                                   # [H]
        head_logits = self.head(self.norm(bag))                           # [2] or [W]  (8)
        aux = {"head_logits": head_logits, "bag": bag, "rows": rows, "neighbours": chosen}
        return BagOutput(answer_of(self.outputs, head_logits), attention, aux)

    def attention_rows(self) -> tuple[str, ...]:
        """One row, or none of a mean."""
        return () if self.attention is None else ("readout",)

    def attention_maps(self, features: Tensor) -> AttentionMaps:
        """Readout attention [R, N], the same row for every class, with patch logits beside it; of a mean patch logits."""
        output = self(features)
        logits = output.logits.detach()
        patch_logits = evidence(self.outputs, self._patch_logits(output).detach()).T  # [R, N]
        if output.attention is None:
            return AttentionMaps("patch logits", patch_logits, logits)
        attention = output.attention.detach().expand(len(self.outputs.maps), -1)
        return AttentionMaps(
            "softmax attention of the readout", attention, logits, is_distribution=True,
            alternatives={"patch logits": patch_logits},
        )  # fmt: skip

    def _patch_logits(self, output: BagOutput) -> Tensor:
        """Logits [N, W] of which the answer is the mean by the readout's weights.

        LayerNorm divides the bag's row by its deviation; each patch's row is divided by the same number.
        """
        rows, bag = output.aux["rows"], output.aux["bag"]
        deviation = (bag.var(correction=0) + self.norm.eps).sqrt()
        scaled = (rows - rows.mean(dim=1, keepdim=True)) / deviation * self.norm.weight + self.norm.bias
        return answer_of(self.outputs, self.head(scaled))

    @classmethod
    def from_official(
        cls, state_dict: Mapping[str, Tensor], *, n_outputs: int | None = None, dead_layer: bool = False, **options: Any
    ) -> WiKG:
        """Model in eval mode with the weights of an official `WiKG`; its dead layers are left out unless `dead_layer`.

        Two classes are a binary task and more are classes, unless `n_outputs` says what the logits answer.
        """
        hidden, in_features = shape_of(state_dict, "_fc1.0.weight")
        told: dict[str, Any] = {"hidden": hidden, "readout": "mean"}
        if "readout.gate_nn.0.weight" in state_dict:
            told |= {"attention": shape_of(state_dict, "readout.gate_nn.0.weight")[0], "readout": "attention"}
        outputs = n_outputs or outputs_of_classes(shape_of(state_dict, "fc.weight")[0])
        model = cls(in_features, outputs, dead_layer=dead_layer, **{**told, **options})
        kept = {name: values for name, values in state_dict.items() if dead_layer or not name.startswith(DEAD)}
        return load_official(model, kept, OFFICIAL_NAMES)


def highest(e: Tensor, t: Tensor, k: int) -> Tensor:
    """Places [N, k] of the k rows t_j [N, H] with the highest e_i . t_j, highest first, for each row of `e` [N, H].

    bfloat16 scores would tie at the last place for every fifth of 4,000 patches, and the order of the file would choose.
    """
    every = float32_or_wider(t).mT                                        # [H, N]
    with without_autocast(e.device):
        chunks = torch.split(float32_or_wider(e), max(1, SCORES_AT_ONCE // len(t)))
        return torch.cat([(chunk @ every).topk(k, dim=1).indices for chunk in chunks])


def message(e: Tensor, chosen: Tensor, t: Tensor, *, weight: Weight) -> Tensor:
    """Messages n [c, H] to c patches with rows `e` [c, H] from their neighbours, rows `chosen` [c, k] of `t` [N, H]."""
    asked, told = float32_or_wider(e), float32_or_wider(t[chosen])        # [c, H], [c, k, H]
    scores = (told @ asked[:, :, None]) * asked.shape[1] ** -0.5          # [c, k, 1]
    p = scores.softmax(dim=1)                                             # [c, k, 1]
    relation = p * told + (1 - p) * asked[:, None]                        # [c, k, H]   (4)
    gate = (asked[:, None] + relation).tanh()                             # [c, k, H]
    u = told.sum(dim=2) * gate.sum(dim=2) if weight == "product_of_sums" else (told * gate).sum(dim=2)  # [c, k]
    gathered: Tensor = (u.softmax(dim=1)[:, None] @ told)[:, 0]           # [c, H]      (5), (6)
    return gathered.to(e.dtype)


def _dead_layers(hidden: int) -> dict[str, nn.Module]:
    """Layers that no forward of the official model uses."""
    half = hidden // 2
    return {"U": Linear(hidden, half), "V": Linear(hidden, half), "W": Linear(half, hidden)}
