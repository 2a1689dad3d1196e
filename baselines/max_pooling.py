"""Max pooling: the highest patch decides.

paper    none
code     none released with the study; this is the field's usual reference model
differs  no original to differ from; `level` and `embedding` offer the variants in use
kinds    as CLAM's `MIL_fc_mc`: one patch per task gives all logits of the task
map      what the patches' instance logits say for the class, grade, value or risk, because there is no attention
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import cast

import torch
from torch import Tensor, nn

from milbench.endpoints.evidence import task_evidence
from milbench.models import BagOutput, register_model
from milbench_baselines.layers.dropout import Dropout
from milbench_baselines.layers.pooling import PoolingModel
from milbench_baselines.layers.scores_of_embedding import scores_of_embedding
from milbench_baselines.layers.small_pooling import is_small, pooled_small
from milbench_baselines.layers.study_trainer import STUDY_TRAINER


@register_model("max_pooling", title="Max pooling", tasks="single", official_recipe=STUDY_TRAINER, study=True)
class MaxPooling(PoolingModel):
    """Logits of the highest patch: logit_t = max_n (w_t . ReLU(W x_n + b) + b_t).

    If a task has several logits, its highest patch gives all of them. With classes it is the patch with the highest
    probability of any class, with grades that of the highest expected grade, in survival that of the highest risk.
    """

    def forward(self, features: Tensor) -> BagOutput:
        if self.level != "instance" or not self.has_usual_loss:
            return super().forward(features)
        is_in_stack = torch._C._are_functorch_transforms_active()
        if is_in_stack and self.outputs.all_binary and self.is_usual and is_small(features, self.head.in_features):
            logits, scores = pooled_small(features, self.embed, self.dropout, self.head, highest=True)
            return BagOutput(logits, None, {"instance_logits": scores})
        has_own_masks = isinstance(self.dropout, Dropout)
        return self._training_output(features) if self.training and has_own_masks else super().forward(features)

    def _training_output(self, features: Tensor) -> BagOutput:
        """Output whose graph holds the highest patches alone, because no gradient flows through the others."""
        with torch.no_grad():
            scores, mask = self._search(features)                 # [N, W]
            highest = self._highest(scores)                       # [T]         the first of equals, as in `pool`
        h = self.embed(features[highest]) * mask(highest)         # [T, hidden] one patch per task
        return BagOutput(self._own(self.head(h)), None, {"instance_logits": scores})

    def _search(self, features: Tensor) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
        """Scores [N, W] of a training pass, and the factors [K, hidden] of dropout at K of its patches."""
        if self.goes_in_blocks(features) and self.dropout.draws:
            scores, lanes = scores_of_embedding(features, cast(nn.Linear, self.embed[0]), self.dropout, self.head)
            return scores, lambda places: self.dropout.of_lanes(lanes[places], like=features)
        h = self.embed(features)                                  # [N, hidden]
        mask = self.dropout.mask(h.shape, like=h)                 # [N, hidden]
        return self.head(h * mask), lambda places: mask[places]

    def pool_logits(self, scores: Tensor) -> Tensor:
        """Logits [W], each task's from its highest patch."""
        if self.outputs.all_binary:
            return self.pool(scores)
        return self._own(scores[self._highest(scores)])

    def _highest(self, scores: Tensor) -> Tensor:
        """Place [T] of each task's highest patch."""
        return task_evidence(self.outputs, scores).max(dim=0).indices

    def _own(self, rows: Tensor) -> Tensor:
        """Logits [W] of rows [T, W]: each task's from its own row."""
        if self.outputs.all_binary:
            return rows.diagonal()
        return torch.cat([row[own] for row, own in zip(rows, self.outputs.slices, strict=True)])

    def of_stack(self, bags: Sequence[Tensor], targets: Tensor, known: Tensor) -> tuple[Tensor, Tensor] | None:
        """Losses [S, B] and logits [S, B, W] of stacked models."""
        return self.losses_of_stack(bags, targets, known, highest=True)

    def pool(self, rows: Tensor) -> Tensor:
        """Highest value [F] of every column. The gradient goes to the first of equals alone."""
        return rows.max(dim=0).values
