"""Gated attention: how much each patch counts."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from milbench_baselines.layers.dropout import Dropout
from milbench_baselines.layers.products import Linear
from milbench_baselines.layers.side_by_side import linear_on_own_bags
from milbench_baselines.layers.usual import is_made_of


class GatedAttention(nn.Module):
    """Raw attention scores [N] of patches [N, D], before any softmax (Ilse et al., ICML 2018, eq. 9).

    score_n = w . (tanh(V h_n) * sigmoid(U h_n)). All three Linear layers have a bias.

    Parameters
    ----------
    in_features : D.
    width : of both branches.
    dropout : on both branches, after their activation.
    """

    def __init__(self, in_features: int, width: int, *, dropout: float = 0.0) -> None:
        super().__init__()
        self.tanh_branch = Linear(in_features, width)
        self.sigmoid_branch = Linear(in_features, width)
        self.dropout = Dropout.of_product(dropout)
        self.score = Linear(width, 1)

    def forward(self, h: Tensor) -> Tensor:
        """Scores [N]. They are those of `of_all`, without the dimension of attentions, which costs small bags time."""
        product = self.tanh_branch(h).tanh() * self.sigmoid_branch(h).sigmoid()  # [N, width]
        return self.score(self.dropout(product)).squeeze(-1)  # type: ignore[no-any-return]  # eq. 9

    @property
    def is_usual(self) -> bool:
        """Whether functions of whole layers may take this one's place."""
        return is_made_of(self, *ATTENTION)

    def of_stack(self, rows: Tensor) -> Tensor:
        """Scores [S, N, 1] of rows [S, N, D] in S stacked attentions without dropout, whose parameters are [S, ...]."""
        a, b, score = self.tanh_branch, self.sigmoid_branch, self.score
        tanh = torch.baddbmm(a.bias[:, None], rows, a.weight.mT).tanh()
        sigmoid = torch.baddbmm(b.bias[:, None], rows, b.weight.mT).sigmoid()
        return torch.baddbmm(score.bias[:, None], tanh * sigmoid, score.weight.mT)

    @staticmethod
    def of_all(attentions: Sequence[GatedAttention], h: Tensor, mask: Tensor | None = None) -> Tensor:
        """Scores [K, N] of K gated attentions: `forward` of each on its own patches of `h` [K, N, D].

        A `mask` [K, N, width] takes the place of one that is drawn.
        """
        a = linear_on_own_bags([each.tanh_branch for each in attentions], h).tanh()        # [K, N, width]
        b = linear_on_own_bags([each.sigmoid_branch for each in attentions], h).sigmoid()  # [K, N, width]
        product = attentions[0].dropout(a * b) if mask is None else a * b * mask           # [K, N, width]
        return linear_on_own_bags([each.score for each in attentions], product).squeeze(-1)  # eq. 9


ATTENTION = GatedAttention, Linear, Linear, Dropout, Linear
"""Classes of a gated attention and its parts."""
