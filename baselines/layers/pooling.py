"""Pooling model: everything that mean and max pooling share, except the pooling."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, Literal

from torch import Tensor, nn

from milbench.endpoints.evidence import evidence
from milbench.models import AttentionMaps, BagOutput, MILModel
from milbench_baselines.layers.dropout import Dropout
from milbench_baselines.layers.initialisation import xavier
from milbench_baselines.layers.options import one_of
from milbench_baselines.layers.products import Linear
from milbench_baselines.layers.row_blocks import goes_in_blocks, is_relu
from milbench_baselines.layers.small_bags import is_cheap, is_small_stack
from milbench_baselines.layers.small_pooling import pooled_stack
from milbench_baselines.layers.usual import are_dropout, are_linear, is_usual

Level = Literal["instance", "embedding"]


class Rectified(nn.Sequential):
    """Rows [N, hidden] = ReLU(W x_n + b) of patches [N, D], without the steps between two modules, which count in small bags."""

    def __init__(self, in_features: int, hidden: int) -> None:
        super().__init__(Linear(in_features, hidden), nn.ReLU())

    def forward(self, features: Tensor) -> Tensor:
        """Rows [N, hidden]."""
        layer, *others = self._modules.values()  # iterating over itself takes a microsecond
        if len(others) == 1 and is_relu(others[0]) and are_linear(layer):
            return layer.forward(features).relu_()  # type: ignore[no-any-return, union-attr]
        return super().forward(features)  # type: ignore[no-any-return, no-untyped-call]


class PoolingModel(MILModel):
    """Patches embedded and classified one by one, then pooled.

    Parameters
    ----------
    in_features, n_outputs : D and W.
    hidden : width of the embedding.
    dropout : on the embedding.
    level : "instance" pools the patches' logits; the study calls this instance-level MIL. "embedding" pools the
        embeddings and classifies the result. In eval mode both give the same mean.
    embedding : False classifies the raw features. `hidden` and `dropout` then have no effect.
    """

    def __init__(
        self,
        in_features: int,
        n_outputs: int,
        *,
        hidden: int = 512,
        dropout: float = 0.25,
        level: Level = "instance",
        embedding: bool = True,
    ) -> None:
        super().__init__(in_features, n_outputs)
        self.level = one_of(Level, level=level)
        self.embed = Rectified(in_features, hidden) if embedding else nn.Sequential()
        self.dropout = Dropout(dropout if embedding else 0)
        self.head = Linear(hidden if embedding else in_features, n_outputs)
        xavier(self)

    @property
    def has_usual_loss(self) -> bool:
        """Whether the loss is of the logits alone. That of a subclass may want gradients of the patches' own logits."""
        return type(self).loss is MILModel.loss

    def goes_in_blocks(self, features: Tensor) -> bool:
        """Whether a bag [N, D] is worked on a block of patches at a time."""
        goes = goes_in_blocks(features) and not is_cheap(features, self.head.in_features)
        return goes and self.is_usual

    @property
    def is_usual(self) -> bool:
        """Whether functions of whole layers may take the place of embedding, dropout and head."""
        if not is_usual(self.embed, Rectified):
            return False
        layers: list[Any] = list(self.embed)
        has_embedding = len(layers) == 2 and is_relu(layers[1]) and are_linear(layers[0], self.head)
        return has_embedding and are_dropout(self.dropout)

    def losses_of_stack(
        self, bags: Sequence[Tensor], targets: Tensor, known: Tensor, *, highest: bool
    ) -> tuple[Tensor, Tensor] | None:
        """What `of_stack` finds of the mean or of the highest of the patches' logits."""
        has_usual_answer = self.level == "instance" and self.outputs.all_binary
        if not has_usual_answer or not self.is_usual or not is_small_stack(bags, self.head.in_features):
            return None
        logits = pooled_stack(bags, self.embed, self.dropout, self.head, highest=highest)
        return (self.task_losses(logits, targets) * known).sum(dim=-1), logits

    @abstractmethod
    def pool(self, rows: Tensor) -> Tensor:
        """Pooled row [F] of `rows` [N, F]."""

    def pool_logits(self, scores: Tensor) -> Tensor:
        """Logits [W] of the patches' logits [N, W]."""
        return self.pool(scores)

    def forward(self, features: Tensor) -> BagOutput:
        h = self.dropout(self.embed(features))                    # [N, hidden]
        scores = self.head(h)                                     # [N, W]
        logits = self.pool_logits(scores) if self.level == "instance" else self.head(self.pool(h))  # [W]
        return BagOutput(logits, None, {"instance_logits": scores})

    def attention_maps(self, features: Tensor) -> AttentionMaps:
        """Evidence [R, N] in the instance logits: of a class against the others, for a grade, a value, a risk.

        With `level="embedding"` instance logits are those that each patch would get as a bag of its own.
        """
        output = self(features)
        maps = evidence(self.outputs, output.aux["instance_logits"].detach()).T
        return AttentionMaps("instance logits", maps, output.logits.detach())
