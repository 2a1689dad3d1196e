"""Mean pooling: every patch counts the same.

paper    none
code     none released with the study; this is the field's usual reference model
differs  no original to differ from; `level` and `embedding` offer the variants in use
map      what the patches' instance logits say for the class, grade, value or risk, because there is no attention
"""

from __future__ import annotations

from torch import Tensor

from milbench.models import register_model
from milbench_baselines.layers.pooling import PoolingModel
from milbench_baselines.layers.study_trainer import STUDY_TRAINER


@register_model("mean_pooling", title="Mean pooling", tasks="single", official_recipe=STUDY_TRAINER, study=True)
class MeanPooling(PoolingModel):
    """Mean of the patches' logits, whatever they answer: logit_w = 1/N sum_n (w_w . ReLU(W x_n + b) + b_w)."""

    def pool(self, rows: Tensor) -> Tensor:
        """Mean [F] over the patches."""
        return rows.mean(dim=0)
