"""Embedding: the layer that every attention network begins with."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from milbench_baselines.layers.dropout import Dropout
from milbench_baselines.layers.side_by_side import each_of_one_bag


class Embedding(nn.Sequential):
    """h_n = Dropout(ReLU(W x_n + b)): rows [N, hidden] of patches [N, D]."""

    def __init__(self, in_features: int, hidden: int, dropout: float) -> None:
        super().__init__(nn.Linear(in_features, hidden), nn.ReLU(), Dropout(dropout))

    @staticmethod
    def of_all(embeddings: Sequence[Embedding], features: Tensor) -> Tensor:
        """[N, E, hidden] of E of them side by side."""
        if len(embeddings) == 1:
            return embeddings[0](features)[:, None]  # type: ignore[no-any-return]
        _, relu, dropout = embeddings[0]
        return dropout(relu(each_of_one_bag([each[0] for each in embeddings], features)))  # type: ignore[no-any-return]
