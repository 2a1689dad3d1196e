"""AMIL's embedding network: AMIL without its head, and each expert of MMoE+AMIL."""

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
        self.dead = nn.Linear(hidden, DEAD_CLASSES) if dead_layer else None
        xavier(self)

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Slide feature [hidden] and scores [N]."""
        h = self.embed(features)                                  # [N, hidden]
        scores = self.attention(h)                                # [N]        Ilse et al., eq. 9
        return weighted_sum(scores.softmax(dim=0), h), scores     # [hidden]   Ilse et al., eq. 7

    @staticmethod
    def of_all(experts: Sequence[AttentionExpert], features: Tensor) -> tuple[Tensor, Tensor]:
        """Slide features [E, hidden] and scores [E, N] of E experts: `forward` of each, in shared products."""
        h = Embedding.of_all([expert.embed for expert in experts], features).transpose(0, 1)  # [E, N, hidden]
        scores = of_each([expert.attention for expert in experts], h)                         # [E, N]
        return (scores.softmax(dim=1)[:, None] @ h).squeeze(1), scores                        # [E, hidden]


def weighted_sum(weights: Tensor, rows: Tensor) -> Tensor:
    """Sum [H] of rows [N, H], each times its weight of `weights` [N].

    It is written as a batched product, as in `of_all`. For N H < 400, torch adds up the gradient of `weights @ rows` in
    another order, so its last digits would differ between the two.
    """
    return (weights[None, None] @ rows[None]).squeeze(1).squeeze(0)


def official_names(ours: str, official: str, *, dead_layer: bool) -> dict[str, str]:
    """Our prefix of every official prefix of one expert."""
    names = {
        f"{official}attention_net.0": f"{ours}embed.0",
        f"{official}attention_net.3.attention_a.0": f"{ours}attention.tanh_branch",
        f"{official}attention_net.3.attention_b.0": f"{ours}attention.sigmoid_branch",
        f"{official}attention_net.3.attention_c": f"{ours}attention.score",
    }
    return {**names, f"{official}classifier": f"{ours}dead"} if dead_layer else names
