"""A plug-in whose model looks at each patch and the patches beside it, for which it needs coordinates."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from milbench.layout import Layout
from milbench.models import BagOutput, MILModel, register_model


@register_model("neighbourly", title="Neighbourly", tasks="multi", needs_coords=True)
class Neighbourly(MILModel):
    """Attention over patches that are averaged with the nearest ones; x and y are features too."""

    def __init__(
        self, in_features: int, n_outputs: int, *, hidden: int = 8, nearest: int = 4, dropout: float = 0.1
    ) -> None:
        super().__init__(in_features, n_outputs)
        self.n_neighbours = nearest
        self.embed = nn.Sequential(nn.Linear(in_features + 2, hidden), nn.ReLU(), nn.Dropout(dropout))
        self.score, self.head = nn.Linear(hidden, 1), nn.Linear(hidden, n_outputs)

    def forward(self, features: Tensor, layout: Layout) -> BagOutput:  # type: ignore[override]
        coords = layout.coords.to(features.dtype) / 10
        h = self.embed(torch.cat([features, coords], dim=1))  # [N, hidden]
        around = h[layout.neighbours].mean(dim=1)  # [N, hidden]
        attention = self.score(around)[:, 0].softmax(dim=0)  # [N]
        return BagOutput(self.head(attention @ around), attention[None], {})

    def attention_rows(self) -> tuple[str, ...]:
        return ("attention",)
