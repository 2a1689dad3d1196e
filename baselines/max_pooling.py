"""Max pooling: the highest patch decides.

paper    -
code     none released; the usual reference model of the field
differs  nothing to differ from; `level` and `embedding` offer the variants in use
map      the patches' instance logits, as there is no attention
"""

from __future__ import annotations

from torch import Tensor

from milbench.models import register_model
from milbench_baselines.layers.pooling import PoolingModel
from milbench_baselines.layers.study_trainer import STUDY_TRAINER


@register_model("max_pooling", title="Max pooling", tasks="single", official_recipe=STUDY_TRAINER)
class MaxPooling(PoolingModel):
    """logit_t = max_n (w_t . ReLU(W x_n + b) + b_t)."""

    def pool(self, rows: Tensor) -> Tensor:
        """Highest value of every column; the gradient goes to the first of equals alone."""
        return rows.max(dim=0).values
