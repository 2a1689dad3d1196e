"""Mean pooling: every patch counts the same.

paper    none
code     none released with the study; this is the field's usual reference model
differs  no original to differ from; `level` and `embedding` offer the variants in use
map      what the patches' instance logits say for the class, grade, value or risk, because there is no attention
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn

from milbench.models import BagOutput, register_model
from milbench_baselines.layers.mean_of_embedding import mean_of_embedding
from milbench_baselines.layers.pooling import PoolingModel
from milbench_baselines.layers.small_pooling import is_small, pooled_small
from milbench_baselines.layers.study_trainer import STUDY_TRAINER


@register_model("mean_pooling", title="Mean pooling", tasks="single", official_recipe=STUDY_TRAINER, study=True)
class MeanPooling(PoolingModel):
    """Mean of the patches' logits, whatever they answer: logit_w = 1/N sum_n (w_w . ReLU(W x_n + b) + b_w)."""

    def forward(self, features: Tensor) -> BagOutput:
        if torch._C._are_functorch_transforms_active():
            is_usual = self.has_usual_loss and self.level == "instance" and self.is_usual
            if is_usual and is_small(features, self.head.in_features):
                logits, scores = pooled_small(features, self.embed, self.dropout, self.head, highest=False)
                return BagOutput(logits, None, {"instance_logits": scores})
        elif self.goes_in_blocks(features) and self._is_mean_of_embedding(features):
            mean, scores = mean_of_embedding(features, cast(nn.Linear, self.embed[0]), self.dropout, self.head)
            return BagOutput(self.head(mean), None, {"instance_logits": scores})  # the mean of logits is the logit of the mean
        return super().forward(features)

    def _is_mean_of_embedding(self, features: Tensor) -> bool:
        """Whether the mean alone is wanted: neither gradients of the patches nor of their logits."""
        return self.has_usual_loss and not features.requires_grad

    def of_stack(self, bags: Sequence[Tensor], targets: Tensor, known: Tensor) -> tuple[Tensor, Tensor] | None:
        """Losses [S, B] and logits [S, B, W] of stacked models."""
        return self.losses_of_stack(bags, targets, known, highest=False)

    def pool(self, rows: Tensor) -> Tensor:
        """Mean [F] over the patches."""
        return rows.mean(dim=0)
