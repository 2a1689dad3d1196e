"""Max pooling: the highest patch decides.

paper    none
code     none released with the study; this is the field's usual reference model
differs  no original to differ from; `level` and `embedding` offer the variants in use
map      the patches' instance logits, because there is no attention
"""

from __future__ import annotations

import torch
from torch import Tensor

from milbench.models import BagOutput, register_model
from milbench_baselines.layers.pooling import PoolingModel
from milbench_baselines.layers.study_trainer import STUDY_TRAINER


@register_model("max_pooling", title="Max pooling", tasks="single", official_recipe=STUDY_TRAINER)
class MaxPooling(PoolingModel):
    """Highest of the patches' logits: logit_t = max_n (w_t . ReLU(W x_n + b) + b_t)."""

    def forward(self, features: Tensor) -> BagOutput:
        if self.training and self.level == "instance":
            return self._training_output(features)
        return super().forward(features)

    def _training_output(self, features: Tensor) -> BagOutput:
        """Output whose graph holds the highest patches alone, because no gradient flows through the others."""
        with torch.no_grad():
            h = self.embed(features)                              # [N, hidden]
            mask = self.dropout.mask(h.shape, like=h)             # [N, hidden]
            scores = self.head(h * mask)                          # [N, T]
            highest = scores.max(dim=0).indices                   # [T]         the first of equals, as in `pool`
        h = self.embed(features[highest]) * mask[highest]         # [T, hidden] one patch per task
        return BagOutput(self.head(h).diagonal(), None, {"instance_logits": scores})

    def pool(self, rows: Tensor) -> Tensor:
        """Highest value [F] of every column. The gradient goes to the first of equals alone."""
        return rows.max(dim=0).values
