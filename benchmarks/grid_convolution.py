"""The reference for neighbourhoods, as a plug-in: convolutions of the true grid.

Only for slides that are full squares in raster order, such as those of `milbench data simulate neighbourhood`.
"""

from __future__ import annotations

from math import isqrt

import torch
from torch import Tensor, nn

from milbench.models import BagOutput, MILModel, register_model


@register_model("grid_conv", title="Grid convolution", tasks="multi", order_matters=True)
class GridConvolution(MILModel):
    """logits = W max_grid(h2),  h2 = ReLU(conv3x3(h1)),  h1 = ReLU(W_1 x)."""

    def __init__(self, in_features: int, n_tasks: int, *, hidden: int = 32) -> None:
        super().__init__(in_features, n_tasks)
        self.embed = nn.Linear(in_features, hidden)
        self.convolve = nn.Conv2d(hidden, hidden, 3, padding=1)
        self.head = nn.Linear(hidden, n_tasks)

    def forward(self, features: Tensor) -> BagOutput:
        """Logits [T], uniform attention [1, N]."""
        side = isqrt(len(features))
        grid = self.embed(features).relu().T.reshape(1, -1, side, side)  # [1, hidden, k, k]
        found = self.convolve(grid).relu().amax(dim=(0, 2, 3))  # [hidden]
        uniform = torch.full((1, len(features)), 1 / len(features), device=features.device)
        return BagOutput(self.head(found), uniform, {})

    def attention_rows(self) -> tuple[str, ...]:
        """One row."""
        return ("uniform",)
