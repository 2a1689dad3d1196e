"""Probabilities: the sigmoid of logits, in which bags keep their order also where a model is very sure."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

COARSE = 1 - 2.0**-20
"""Probability of a logit of 13.9. From here on float32 has 16 values up to 1, and 1 itself from 17 on."""


def sigmoids(logits: Tensor) -> NDArray[np.float64]:
    """Sigmoid of each logit, in the shape of `logits`.

    It is taken in float32, as ever. Where float32 has few values left, bags would tie that the model tells apart, and AUROC
    would count them as ties. So from `COARSE` on, and at 0, that of float64 stands. It tells logits apart up to about 36.
    """
    values = torch.sigmoid(logits).cpu().double()
    is_sure = (values >= COARSE) | (values == 0)
    if is_sure.any():
        exact = torch.sigmoid(logits.cpu().double())
        values = torch.where(is_sure, torch.where(values == 0, exact, exact.clamp(min=COARSE)), values)
    return np.asarray(values.numpy())
