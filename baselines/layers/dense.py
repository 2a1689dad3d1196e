"""Dense experts: Linear and ReLU on a row, as MoE, MMoE and PLE have them on plain vectors."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from milbench_baselines.layers.products import Linear
from milbench_baselines.layers.side_by_side import linear_on_own_bags
from milbench_baselines.layers.usual import are_linear, are_relu, is_usual


class Dense(nn.Sequential):
    """Row [O] of a row [I]: Linear and ReLU per width, also after the last.

    Parameters
    ----------
    widths : I, then the width of every layer; the last is O.
    """

    def __init__(self, *widths: int) -> None:
        pairs = pairwise(widths)
        super().__init__(*(layer for i, o in pairs for layer in (Linear(i, o), nn.ReLU())))

    @property
    def is_usual(self) -> bool:
        """Whether functions of whole layers may take this one's place."""
        return is_usual(self, Dense) and are_linear(*list(self)[::2]) and are_relu(*list(self)[1::2])

    @staticmethod
    def of_all(experts: Sequence[Dense] | nn.ModuleList, rows: Tensor) -> Tensor:
        """Rows [K, O] of K of these experts: expert k on row k of `rows` [K, I]."""
        if not all(expert.is_usual for expert in experts):
            return torch.stack([expert(row) for expert, row in zip(experts, rows, strict=True)])
        h = rows[:, None]                                                                          # [K, 1, I]
        for place in range(0, len(experts[0]), 2):  # type: ignore[arg-type]
            h = linear_on_own_bags([expert[place] for expert in experts], h).relu()  # type: ignore[index]
        return h.squeeze(1)                                                                        # [K, O]


class DenseExpert(nn.Module):
    """Slide feature [O] and scores [N] of patches [N, D]: `Dense` on the mean patch, and equal attention on all patches.

    With a bag of one patch this is an expert on a plain vector.

    Parameters
    ----------
    widths : as in `Dense`.
    """

    def __init__(self, *widths: int) -> None:
        super().__init__()
        self.dense = Dense(*widths)

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Slide feature [O] and scores [N], all 0."""
        return self.dense(features.mean(dim=0)), features.new_zeros(features.shape[0])

    @property
    def is_usual(self) -> bool:
        """Whether functions of whole layers may take this one's place."""
        return is_usual(self, DenseExpert) and self.dense.is_usual

    @staticmethod
    def of_all(experts: Sequence[DenseExpert], features: Tensor) -> tuple[Tensor, Tensor]:
        """Slide features [E, O] and scores [E, N] of E of these experts."""
        rows = features.mean(dim=0).expand(len(experts), -1)
        return Dense.of_all([expert.dense for expert in experts], rows), features.new_zeros(len(experts), len(features))
