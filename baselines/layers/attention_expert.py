"""AMIL's embedding network: the whole of AMIL but its head, and each expert of MMoE."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from milbench_baselines.layers.dropout import Dropout
from milbench_baselines.layers.gated_attention import GatedAttention
from milbench_baselines.layers.initialisation import xavier

DEAD_CLASSES = 4


class AttentionExpert(nn.Module):
    """Slide feature [hidden] and raw attention scores [N] of patches [N, D].

    h_n = Dropout(ReLU(W x_n + b)); M = sum_n softmax(gated attention)_n h_n.

    Parameters
    ----------
    in_features : D.
    hidden, attention : widths of the embedding and of the attention's branches.
    dropout : on the embedding; `attention_dropout` on both attention branches.
    dead_layer : also own the Linear hidden -> 4 that the official experts carry and never use.
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
        self.embed = nn.Sequential(nn.Linear(in_features, hidden), nn.ReLU(), Dropout(dropout))
        self.attention = GatedAttention(hidden, attention, dropout=attention_dropout)
        self.dead = nn.Linear(hidden, DEAD_CLASSES) if dead_layer else None
        xavier(self)

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Slide feature [hidden] and scores [N]."""
        h = self.embed(features)                  # [N, hidden]; the same dropout mask is scored and pooled
        scores = self.attention(h)                # [N]
        return torch.softmax(scores, dim=0) @ h, scores


def official_names(ours: str, official: str, *, dead_layer: bool) -> dict[str, str]:
    """Official prefix -> ours, of one expert."""
    names = {
        f"{official}attention_net.0": f"{ours}embed.0",
        f"{official}attention_net.3.attention_a.0": f"{ours}attention.tanh_branch",
        f"{official}attention_net.3.attention_b.0": f"{ours}attention.sigmoid_branch",
        f"{official}attention_net.3.attention_c": f"{ours}attention.score",
    }
    return {**names, f"{official}classifier": f"{ours}dead"} if dead_layer else names
