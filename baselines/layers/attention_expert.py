"""AMIL's embedding network: the whole of AMIL but its head, and each expert of MMoE."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from milbench_baselines.layers.embedding import Embedding
from milbench_baselines.layers.gated_attention import GatedAttention
from milbench_baselines.layers.initialisation import xavier
from milbench_baselines.layers.side_by_side import of_each

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
        self.embed = Embedding(in_features, hidden, dropout)
        self.attention = GatedAttention(hidden, attention, dropout=attention_dropout)
        self.dead = nn.Linear(hidden, DEAD_CLASSES) if dead_layer else None
        xavier(self)

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Slide feature [hidden] and scores [N]."""
        slide, scores = self.of_all([self], features)
        return slide.squeeze(0), scores.squeeze(0)

    @staticmethod
    def of_all(experts: Sequence[AttentionExpert], features: Tensor) -> tuple[Tensor, Tensor]:
        """Slide features [E, hidden] and scores [E, N] of E experts side by side."""
        h = Embedding.of_all([expert.embed for expert in experts], features).transpose(0, 1)  # [E, N, hidden]
        scores = of_each([expert.attention for expert in experts], h)                         # [E, N]
        return (scores.softmax(dim=1)[:, None] @ h).squeeze(1), scores


def official_names(ours: str, official: str, *, dead_layer: bool) -> dict[str, str]:
    """Official prefix -> ours, of one expert."""
    names = {
        f"{official}attention_net.0": f"{ours}embed.0",
        f"{official}attention_net.3.attention_a.0": f"{ours}attention.tanh_branch",
        f"{official}attention_net.3.attention_b.0": f"{ours}attention.sigmoid_branch",
        f"{official}attention_net.3.attention_c": f"{ours}attention.score",
    }
    return {**names, f"{official}classifier": f"{ours}dead"} if dead_layer else names
