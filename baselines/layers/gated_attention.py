"""Gated attention: how much each patch counts."""

from __future__ import annotations

from torch import Tensor, nn

from milbench_baselines.layers.dropout import Dropout


class GatedAttention(nn.Module):
    """Raw attention scores [N] of patches [N, D], before any softmax (Ilse et al., ICML 2018, eq. 9).

    score_n = w . (tanh(V h_n) * sigmoid(U h_n)), all Linear layers with bias.

    Parameters
    ----------
    in_features : D.
    width : of both branches.
    dropout : on both branches, after their activation.
    """

    def __init__(self, in_features: int, width: int, *, dropout: float = 0.0) -> None:
        super().__init__()
        self.tanh_branch = nn.Linear(in_features, width)
        self.sigmoid_branch = nn.Linear(in_features, width)
        # an entry of the product stays where both branches' stay: one draw for the two has the same distribution
        self.dropout = Dropout(1 - (1 - dropout) ** 2)
        self.score = nn.Linear(width, 1)

    def forward(self, h: Tensor) -> Tensor:
        """Scores [N]."""
        a = self.tanh_branch(h).tanh()                 # [N, width]
        b = self.sigmoid_branch(h).sigmoid()           # [N, width]
        return self.score(self.dropout(a * b))[:, 0]  # type: ignore[no-any-return]
