"""Embedding: the layer that every attention network of the study begins with."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from milbench_baselines.layers.dropout import Dropout
from milbench_baselines.layers.side_by_side import linear_on_shared_bag


class Embedding(nn.Sequential):
    """Rows [N, hidden] of patches [N, D]: h_n = Dropout(ReLU(W x_n + b))."""

    def __init__(self, in_features: int, hidden: int, dropout: float) -> None:
        super().__init__(nn.Linear(in_features, hidden), nn.ReLU(), Dropout(dropout))

    @staticmethod
    def of_all(embeddings: Sequence[Embedding], features: Tensor) -> Tensor:
        """Rows [N, E, hidden] of E embeddings of the same patches [N, D]."""
        if len(embeddings) == 1:
            return embeddings[0](features)[:, None]  # type: ignore[no-any-return]
        _, relu, dropout = embeddings[0]
        return dropout(relu(linear_on_shared_bag([each[0] for each in embeddings], features)))  # type: ignore[no-any-return]
