"""Attention with several rows: K scores of each patch from one hidden layer."""

from __future__ import annotations

from torch import Tensor, nn

from milbench_baselines.layers.dropout import Dropout
from milbench_baselines.layers.products import Linear


class AttentionBranches(nn.Module):
    """Raw attention scores [K, N] of patches [N, D], before any softmax (Ilse et al., ICML 2018, eq. 8 and 9).

    score_kn = w_k . (tanh(V h_n) * sigmoid(U h_n)) + b_k. V and U have a bias too.

    Parameters
    ----------
    in_features : D.
    width : of the hidden layer.
    rows : K.
    dropout : on the hidden layer, in both branches after their activation.
    gate : False leaves sigmoid(U h_n) out.
    """

    def __init__(
        self, in_features: int, width: int, rows: int, *, dropout: float = 0.0, gate: bool = True
    ) -> None:
        super().__init__()
        self.tanh_branch = Linear(in_features, width)
        self.sigmoid_branch = Linear(in_features, width) if gate else None
        self.dropout = Dropout.of_product(dropout) if gate else Dropout(dropout)
        self.score = Linear(width, rows)

    def forward(self, h: Tensor) -> Tensor:
        """Scores [K, N] of patches [N, D]."""
        hidden = self.tanh_branch(h).tanh()                                # [N, width]
        if self.sigmoid_branch is not None:
            hidden = hidden * self.sigmoid_branch(h).sigmoid()             # [N, width]
        return self.score(self.dropout(hidden)).T  # type: ignore[no-any-return]


def ranked(scores: Tensor) -> Tensor:
    """Patches [K, N] by each row of `scores` [K, N], the highest first.

    Of equal scores the earlier patch comes first, on every machine; `topk` leaves that open.
    """
    return scores.detach().sort(dim=-1, descending=True, stable=True).indices
