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
class Sums(MILModel):
    """Sum over the patches: it counts."""

    def __init__(self, in_features: int, n_outputs: int, *, hidden: int = 32) -> None:
        super().__init__(in_features, n_outputs)
        self.embed = nn.Sequential(nn.Linear(in_features, hidden), nn.ReLU())
        self.head = nn.Linear(hidden, n_outputs)

    def forward(self, features: Tensor) -> BagOutput:
        return BagOutput(self.head(self.embed(features).sum(dim=0) / 10), None, {})


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


@register_model("highest_twice", title="Highest features, two tasks", tasks="multi")
class HighestTwice(Highest):
    """For several tasks."""


@register_model("one_for_all", title="One answer for all tasks", tasks="multi")
class OneForAll(Highest):
    """Gives every task the first task's answer."""

    def forward(self, features: Tensor) -> BagOutput:
        first = super().forward(features).logits[:1]
        return BagOutput(first.expand(int(self.outputs)), None, {})


@register_model("raises_in_training", title="Raises in training", tasks="single")
class RaisesInTraining(_Embedded):
    """Keeps the contract on small bags, and raises on larger ones."""

    def forward(self, features: Tensor) -> BagOutput:
        if len(features) > 7:
            raise RuntimeError("too large for me")
        return BagOutput(self.head(self.embed(features).mean(dim=0)), None, {})
