"""What mean and max pooling share: everything but the pooling."""

from __future__ import annotations

from abc import abstractmethod
from typing import Literal

from torch import Tensor, nn

from milbench.models import AttentionMaps, BagOutput, MILModel
from milbench_baselines.layers.dropout import Dropout
from milbench_baselines.layers.initialisation import xavier
from milbench_baselines.layers.options import one_of

Level = Literal["instance", "embedding"]


class PoolingModel(MILModel):
    """Patches embedded one by one, then pooled; no code of the study is released for these.

    Parameters
    ----------
    in_features, n_tasks : D and T.
    hidden : width of the embedding.
    dropout : on the embedding.
    level : "instance" pools the patches' logits (what the study calls instance-level MIL); "embedding"
        pools the embeddings and classifies the result. For the mean they coincide in eval mode.
    embedding : False classifies the raw features directly; `hidden` and `dropout` then mean nothing.
    """

    def __init__(
        self,
        in_features: int,
        n_tasks: int,
        *,
        hidden: int = 512,
        dropout: float = 0.25,
        level: Level = "instance",
        embedding: bool = True,
    ) -> None:
        super().__init__(in_features, n_tasks)
        self.level = one_of(Level, level=level)
        self.embed = nn.Sequential(*([nn.Linear(in_features, hidden), nn.ReLU()] if embedding else []))
        self.dropout = Dropout(dropout if embedding else 0)
        self.head = nn.Linear(hidden if embedding else in_features, n_tasks)
        xavier(self)

    @abstractmethod
    def pool(self, rows: Tensor) -> Tensor:
        """One row [F] of many, `rows` [N, F]."""

    def forward(self, features: Tensor) -> BagOutput:
        h = self.dropout(self.embed(features))                    # [N, hidden]
        scores = self.head(h)                                     # [N, T]
        logits = self.pool(scores) if self.level == "instance" else self.head(self.pool(h))  # [T]
        return BagOutput(logits, None, {"instance_logits": scores})

    def attention_maps(self, features: Tensor) -> AttentionMaps:
        """Instance logits [T, N]; with `level="embedding"` those that each patch would get alone."""
        output = self(features)
        return AttentionMaps("instance logits", output.aux["instance_logits"].detach().T, output.logits.detach())
