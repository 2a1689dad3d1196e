"""Simple models that pass or fail a test of milbench/probes/ by construction."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from milbench.models import BagOutput, MILModel, register_model


class _Embedded(MILModel):
    """One hidden layer per patch."""

    def __init__(self, in_features: int, n_outputs: int, *, hidden: int = 32) -> None:
        super().__init__(in_features, n_outputs)
        self.embed = nn.Sequential(nn.Linear(in_features, hidden), nn.Sigmoid())
        self.head = nn.Linear(hidden, n_outputs)


@register_model("sums", title="Sum", tasks="single")
class Sums(_Embedded):
    """Sum of the patches: it counts."""

    def forward(self, features: Tensor) -> BagOutput:
        return BagOutput(self.head(self.embed(features).sum(dim=0) - 0.5 * len(features)), None, {})


@register_model("highest", title="Highest features", tasks="single")
class Highest(_Embedded):
    """Highest value of each hidden feature: presence of several concepts, and absence too."""

    def forward(self, features: Tensor) -> BagOutput:
        return BagOutput(self.head(self.embed(features).max(dim=0).values), None, {})


@register_model("reads_order", title="Reads the order", tasks="single", order_matters=True)
class ReadsOrder(_Embedded):
    """Mean over the patches, weighted by the place in the file."""

    def forward(self, features: Tensor) -> BagOutput:
        place = torch.linspace(-1, 1, len(features), dtype=features.dtype)
        return BagOutput(self.head(place @ self.embed(features) / len(features)), None, {})


@register_model("reads_pairs", title="Reads pairs", tasks="single", order_matters=True)
class ReadsPairs(_Embedded):
    """Highest product of two patches that follow each other in the file: neighbours of a row."""

    def forward(self, features: Tensor) -> BagOutput:
        h = self.embed(features)
        pairs = h * h.roll(1, dims=0)
        return BagOutput(self.head(pairs.max(dim=0).values), None, {})


@register_model("reads_pairs_twice", title="Reads pairs of both tasks", tasks="multi", order_matters=True)
class ReadsPairsTwice(ReadsPairs):
    """For several tasks."""


@register_model("highest_twice", title="Highest features of both tasks", tasks="multi")
class HighestTwice(Highest):
    """For several tasks."""
